"""`python -m tools.pocket build` and `next`: the shipped models, and a later release of their base to try patches on."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from patchlab.cli.options import whole
from patchlab.cli.progress import shown
from patchlab.cli.shell import run
from patchlab.errors import InputError
from patchlab.models import preset
from patchlab.models.presets import ASSETS
from patchlab.records import Progress
from tools.pocket import build, next

PROGRAM = "python -m tools.pocket"


def parser() -> argparse.ArgumentParser:
    """The parser of both verbs."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    made = verbs.add_parser(
        "build", allow_abbrev=False, help="make everything that comes with PatchLab",
        description="Make the embedded models, suites, scorers and patches from a seed. Ctrl-C loses no finished "
                    "stage; the same command goes on.")
    made.add_argument("--out", type=Path, default=ASSETS, metavar="DIR", help="where they go (default: PatchLab's own assets)")
    made.add_argument("--work", type=Path, default=Path("runs/pocket"), metavar="DIR",
                      help="where unfinished work is kept (default: runs/pocket)")
    made.add_argument("--data", type=Path, metavar="DIR",
                      help="public safety data to fit the scorers on (default: keep the scorers as they are)")
    made.add_argument("--seed", type=whole(0), default=build.SEED, metavar="S",
                      help=f"another seed makes another world's models (default: {build.SEED})")
    made.set_defaults(run=_build)
    later = verbs.add_parser(
        "next", allow_abbrev=False, help="train the pocket base on, as its next release",
        description="Train the pocket base on, on its world told by another seed, into a folder of its own: a next release to "
                    "try its patches on (patchlab patches port). Ctrl-C loses at most 50 steps; the same command goes on.")
    later.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the model goes")
    later.add_argument("--steps", type=whole(1), default=200, metavar="N",
                       help="batches to train on: the more, the farther from the base (default: 200)")
    later.add_argument("--seed", type=whole(0), default=next.SEED, metavar="S",
                       help=f"another seed makes another release (default: {next.SEED})")
    later.set_defaults(run=_next)
    return top


def _build(args: argparse.Namespace) -> None:
    if args.data and not args.data.is_dir():
        raise InputError(f"no folder {args.data}", expected="a folder of public data sets", do="check the path")
    _finish(args, build.build_all(build.Plan(out=args.out, work=args.work, data=args.data, seed=args.seed)))


def _next(args: argparse.Namespace) -> None:
    source = Path(preset("pocket").source("base"))
    _finish(args, next.next_release(next.Release(source=source, out=args.out, steps=args.steps, seed=args.seed)))


def _finish(args: argparse.Namespace, steps: Iterator[Progress]) -> None:
    """Show the steps' progress, then print the folder they wrote."""
    try:
        for _ in shown(steps):
            pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; go on with: {PROGRAM} {shlex.join(args.words)}") from None
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    return run(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
