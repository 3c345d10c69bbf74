"""`patchlab patches gate`: fits a gate for an installed patch and writes the patch anew with it; the installed one stays."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import add_models, read_models
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.patches import Patch
from patchlab.records import Progress
from patchlab.registry import lookup

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs
    from patchlab.engine import Lab


def add(actions: Verbs) -> None:
    """Add the verb to those of `patches`."""
    parser = actions.add_parser(
        "gate", allow_abbrev=False, help="fit a gate that says for which prompts a patch is on",
        description="Fit a small probe on the base's own state that tells a patch's prompts from all others, and print the "
                    "folder of the patch with it. With --gates on, compare and evaluate leave a patch off where its gate "
                    "lets the prompt through.")
    parser.add_argument("--prompts", type=Path, metavar="F.jsonl",
                        help='prompts with "text", "kind" and "domain" (default: those of the pocket models)')
    parser.add_argument("--dev", type=Path, metavar="F.jsonl",
                        help="prompts for layer and threshold (default: a tenth of the prompts is set aside)")
    parser.add_argument("--improves", default="", metavar="A,B",
                        help="the domains of prompts that the patch is for, as its recipe says (default: by its own domain)")
    parser.add_argument("--missed", type=float, default=0.01, metavar="SHARE",
                        help="most of the patch's own dev prompts that may be let through (default: 0.01)")
    add_patch(parser)
    parser.set_defaults(run=gate, refuse=parser.error)


def add_patch(parser: argparse.ArgumentParser) -> None:
    """Which patch and models, and where the patch that is made goes."""
    parser.add_argument("name", metavar="NAME", help="an installed patch, as NAME or NAME@VERSION")
    add_models(parser)
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

    def steps(lab: Lab, patch: Patch) -> Generator[Progress, None, Patch]:
        improves = [each.strip() for each in args.improves.split(",") if each.strip()]
        fitted = yield from fit_gate(lab.base, patch.manifest.domain, prompts, dev, improves=improves, missed=args.missed)
        yield Progress("gate", 1, 1, f"layer {fitted.gate.layer}; {fitted.missed} of {fitted.own} own dev prompts let through, "
                                     f"{fitted.kept} of {fitted.others} others not")
        return dataclasses.replace(patch, gate=fitted.gate)

    for folder in shown(rewritten(args, steps)):
        print(folder)


def rewritten(args: argparse.Namespace,
              steps: Callable[[Lab, Patch], Generator[Progress, None, Patch]]) -> Iterator[Progress | Path]:
    """Load the patch and its base, take the steps, write what they return; yields progress and at last the folder."""
    name, _, version = args.name.partition("@")
    lookup(name, version or None)  # a misspelt name is said before any model is loaded
    lab = read_models(args)
    patch = lab.planner.patch(name, version or None)
    from patchlab.training.release import release

    made = yield from steps(lab, patch)
    manifest = dataclasses.replace(patch.manifest, version=args.version or patch.manifest.version)
    yield release(dataclasses.replace(made, manifest=manifest), args.out, evidence=manifest.evidence)
