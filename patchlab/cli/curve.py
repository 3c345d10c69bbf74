"""`patchlab patches curve`: measures an installed patch at several strengths and writes a copy that contains the curve."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING

from patchlab.cli.gate import add_patch, print_rewritten
from patchlab.cli.options import Verbs, add_measuring
from patchlab.patches import Patch
from patchlab.records import Progress

if TYPE_CHECKING:
    from patchlab.engine import Lab


def add(actions: Verbs) -> None:
    """Add the verb to those of `patches`."""
    parser = actions.add_parser(
        "curve", allow_abbrev=False, help="measure a patch at several strengths",
        description="Measure a patch at strengths from 0 to 4 on held-out prompts: the metric of its own suite, the refusal rate "
                    "on harmless requests and the KL divergence to the base. Write a copy of the patch that contains this curve, "
                    "which the page plots, and print its folder.")
    add_measuring(parser, n=100)
    add_patch(parser)
    parser.set_defaults(run=curve, refuse=parser.error)


def curve(args: argparse.Namespace) -> None:
    """Measure a curve and write a copy of the patch with it."""
    from patchlab.training.curve import measure_curve

    def with_curve(lab: Lab, patch: Patch) -> Generator[Progress, None, Patch]:
        return dataclasses.replace(patch, curve=(yield from measure_curve(lab, patch, n=args.n, seed=args.seed)))

    print_rewritten(args, with_curve)
