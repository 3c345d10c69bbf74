"""`patchlab patches gate` and `patchlab patches curve`: what a patch may bring along, made for one that is installed.

Both write the patch anew, with what it now has, and leave the installed one as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import add_preset, whole
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.patches import Patch
from patchlab.records import Progress
from patchlab.registry import default_registry

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs
    from patchlab.models import Backbone


def add(actions: Verbs) -> None:
    """Add the verbs to those of `patches`."""
    parser = actions.add_parser(
        "gate", allow_abbrev=False, help="fit a gate that says for which prompts a patch is on",
        description="Fit a small probe on the base's own state that tells a patch's prompts from all others, and print the "
                    "folder of the patch with it. With --gates on, compare and evaluate leave a patch off where its gate "
                    "lets the prompt through.")
    parser.add_argument("--prompts", type=Path, metavar="F.jsonl",
                        help='prompts with "text", "kind" and "domain" (default: those of the made world)')
    parser.add_argument("--dev", type=Path, metavar="F.jsonl",
                        help="prompts for layer and threshold (default: a tenth of the prompts is set aside)")
    parser.add_argument("--improves", default="", metavar="A,B",
                        help="the domains of prompts that the patch is for, as its recipe says (default: by its own domain)")
    parser.add_argument("--missed", type=float, default=0.01, metavar="SHARE",
                        help="most of the patch's own dev prompts that may be let through (default: 0.01)")
    _finish(parser)
    parser.set_defaults(run=gate)
    parser = actions.add_parser(
        "curve", allow_abbrev=False, help="measure what each strength of a patch does",
        description="Measure a patch at strengths from 0 to 4 on held-out prompts: its own suite, refusals of harmless requests, "
                    "drift from the base; print the folder of the patch with that curve, which the page draws.")
    parser.add_argument("--n", type=whole(1), default=100, metavar="N", help="most prompts a file (default: 100)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="the same seed gives the same figures (default: 0)")
    _finish(parser)
    parser.set_defaults(run=curve)


def _finish(parser: argparse.ArgumentParser) -> None:
    """What both verbs are given."""
    parser.add_argument("name", metavar="NAME", help="an installed patch, as NAME or NAME@VERSION")
    add_preset(parser)
    parser.add_argument("--version", metavar="V", help="the version to write (default: the patch's own)")
    parser.add_argument("--out", type=Path, default=Path("runs/patches"), metavar="DIR",
                        help="where the patch goes, under its own name (default: runs/patches)")


def gate(args: argparse.Namespace) -> None:
    """Fit a gate and write the patch with it."""
    if not 0 <= args.missed < 1:
        raise InputError(f"--missed {args.missed:g}", expected="a share from 0 to below 1", do="give 0.01 for one in a hundred")
    from patchlab.evaluation.suites import read_prompts
    from patchlab.models import presets
    from patchlab.training.calibration import set_aside
    from patchlab.training.gates import fit_gate

    prompts = read_prompts(args.prompts or presets.ASSETS / "suites" / "pocket" / "train.jsonl")
    prompts, dev = (prompts, read_prompts(args.dev)) if args.dev else set_aside(prompts)

    def steps(base: Backbone, patch: Patch) -> Generator[Progress, None, Patch]:
        improves = [each.strip() for each in args.improves.split(",") if each.strip()]
        fitted = yield from fit_gate(base, patch.manifest.domain, prompts, dev, improves=improves, missed=args.missed)
        yield Progress("gate", 1, 1, f"layer {fitted.gate.layer}; {fitted.missed} of {fitted.own} own dev prompts let through, "
                                     f"{fitted.kept} of {fitted.others} others not")
        return dataclasses.replace(patch, gate=fitted.gate)

    for folder in shown(_written(args, steps)):
        print(folder)


def curve(args: argparse.Namespace) -> None:
    """Measure a curve and write the patch with it."""
    from patchlab.training.curve import measure_curve

    def steps(base: Backbone, patch: Patch) -> Generator[Progress, None, Patch]:
        return dataclasses.replace(patch, curve=(yield from measure_curve(base, patch, n=args.n, seed=args.seed)))

    for folder in shown(_written(args, steps)):
        print(folder)


def _written(args: argparse.Namespace,
             steps: Callable[[Backbone, Patch], Generator[Progress, None, Patch]]) -> Iterator[Progress | Path]:
    """Load the patch and its base, take the steps, write what they return; yields progress and at last the folder."""
    name, _, version = args.name.partition("@")
    patch = default_registry().load(name, version or None)
    manifest = dataclasses.replace(patch.manifest, version=args.version or patch.manifest.version)
    from patchlab.models import Backbone, preset
    from patchlab.training.trainer import release

    base = Backbone.load(preset(args.preset).source("base"))
    base.check_patch(manifest.base, patch=args.name)
    made = yield from steps(base, patch)
    yield release(dataclasses.replace(made, manifest=manifest), args.out, evidence=manifest.evidence)
