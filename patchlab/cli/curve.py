"""`patchlab patches curve`: measures what each strength of an installed patch does and writes the patch anew with it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING

from patchlab.cli.gate import add_patch, rewritten
from patchlab.cli.options import whole
from patchlab.cli.progress import shown
from patchlab.patches import Patch
from patchlab.records import Progress

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs
    from patchlab.engine import Lab


def add(actions: Verbs) -> None:
    """Add the verb to those of `patches`."""
    parser = actions.add_parser(
        "curve", allow_abbrev=False, help="measure what each strength of a patch does",
        description="Measure a patch at strengths from 0 to 4 on held-out prompts: its own suite, refusals of harmless requests, "
                    "drift from the base; print the folder of the patch with that curve, which the page draws.")
    parser.add_argument("--n", type=whole(1), default=100, metavar="N", help="most prompts a file (default: 100)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="the same seed gives the same figures (default: 0)")
    add_patch(parser)
    parser.set_defaults(run=curve, refuse=parser.error)


def curve(args: argparse.Namespace) -> None:
    """Measure a curve and write the patch with it."""
    from patchlab.training.curve import measure_curve

    def steps(lab: Lab, patch: Patch) -> Generator[Progress, None, Patch]:
        return dataclasses.replace(patch, curve=(yield from measure_curve(lab, patch, n=args.n, seed=args.seed)))

    for folder in shown(rewritten(args, steps)):
        print(folder)
