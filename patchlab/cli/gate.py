"""`patchlab patches gate`: fits a gate for an installed patch and writes a copy that contains it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import PATCH, Verbs, add_models, find_patch, read_models
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.patches import Patch
from patchlab.records import Progress

if TYPE_CHECKING:
    from patchlab.engine import Lab

Rewrite = Callable[["Lab", Patch], Generator[Progress, None, Patch]]


def add(actions: Verbs) -> None:
    """Add the verb to those of `patches`."""
    parser = actions.add_parser(
        "gate", allow_abbrev=False, help="fit a gate that selects the prompts a patch is applied to",
        description="Fit a linear classifier on a hidden state of the base that separates a patch's own prompts from all others. "
                    "Write a copy of the patch that contains this gate, and print its folder. With --gates on, compare and "
                    "evaluate apply the patch only to the prompts that its gate selects.")
    parser.add_argument("--prompts", type=Path, metavar="F.jsonl",
                        help='prompts with "text", "kind" and "domain" (default: those of the pocket models)')
    parser.add_argument("--dev", type=Path, metavar="F.jsonl",
                        help="prompts to choose the layer and the threshold on (default: a tenth of the training prompts is held "
                             "out)")
    parser.add_argument("--improves", default="", metavar="A,B",
                        help="domains of the patch's own prompts (default: those of the patch's domain)")
    parser.add_argument("--missed", type=float, default=0.01, metavar="SHARE",
                        help="maximum share of the patch's own dev prompts that the gate may miss (default: 0.01)")
    add_patch(parser)
    parser.set_defaults(run=gate, refuse=parser.error)


def add_patch(parser: argparse.ArgumentParser) -> None:
    """Add the patch to read, the models to load, and the version and folder to write."""
    parser.add_argument("name", metavar="NAME", help=PATCH)
    add_models(parser)
    parser.add_argument("--version", metavar="V", help="version to write (default: that of the patch)")
    parser.add_argument("--out", type=Path, default=Path("runs/patches"), metavar="DIR",
                        help="folder to write the patch's own folder into (default: runs/patches)")


def gate(args: argparse.Namespace) -> None:
    """Fit a gate and write a copy of the patch with it."""
    if not 0 <= args.missed < 1:
        raise InputError(f"--missed {args.missed:g}", expected="a share from 0 to below 1", do="give 0.01 for one in a hundred")
    from patchlab.evaluation.suites import read_prompts
    from patchlab.models import presets
    from patchlab.training.calibration import set_aside
    from patchlab.training.gates import fit_gate

    prompts = read_prompts(args.prompts or presets.ASSETS / "suites" / "pocket" / "train.jsonl")
    prompts, dev = (prompts, read_prompts(args.dev)) if args.dev else set_aside(prompts)
    improves = [domain.strip() for domain in args.improves.split(",") if domain.strip()]

    def with_gate(lab: Lab, patch: Patch) -> Generator[Progress, None, Patch]:
        fit = yield from fit_gate(lab.base, patch.manifest.domain, prompts, dev, improves=improves, missed=args.missed)
        yield Progress("gate", 1, 1, f"layer {fit.gate.layer}; on dev prompts the gate misses {fit.missed} of {fit.own} own and "
                                     f"wrongly selects {fit.kept} of {fit.others} others")
        return dataclasses.replace(patch, gate=fit.gate)

    print_rewritten(args, with_gate)


def print_rewritten(args: argparse.Namespace, rewrite: Rewrite) -> None:
    """Load the patch and its base, write the patch that `rewrite` returns, and print its folder."""
    find_patch(args.name)  # an unknown name is an error before models are loaded

    def steps() -> Iterator[Progress | Path]:
        from patchlab.training.release import release

        lab = read_models(args)
        name, _, version = args.name.partition("@")
        patch = lab.planner.patch(name, version or None)
        made = yield from rewrite(lab, patch)
        manifest = dataclasses.replace(patch.manifest, version=args.version or patch.manifest.version)
        yield release(dataclasses.replace(made, manifest=manifest), args.out, evidence=manifest.evidence)

    for folder in shown(steps()):
        print(folder)
