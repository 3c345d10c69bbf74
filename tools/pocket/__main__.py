"""`python -m tools.pocket build` builds what ships with PatchLab; `next` trains a later release of the pocket base."""

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
    """The argument parser of both verbs."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    verb = verbs.add_parser(
        "build", allow_abbrev=False, help="build the models, suites, scorers and patches that ship with PatchLab",
        description="Build the embedded models, suites, scorers and patches from a seed. After Ctrl-C the same command "
                    "resumes; finished stages are kept.")
    verb.add_argument("--out", type=Path, default=ASSETS, metavar="DIR", help="output folder (default: PatchLab's own assets)")
    verb.add_argument("--work", type=Path, default=Path("runs/pocket"), metavar="DIR",
                      help="folder for unfinished work (default: runs/pocket)")
    verb.add_argument("--data", type=Path, metavar="DIR",
                      help="public safety data to fit the scorers on (default: keep the present scorers)")
    verb.add_argument("--seed", type=whole(0), default=build.SEED, metavar="S",
                      help=f"seed of documents, weights and training (default: {build.SEED})")
    verb.set_defaults(run=_build)
    verb = verbs.add_parser(
        "next", allow_abbrev=False, help="train a next release of the pocket base",
        description="Train the pocket base for more steps on documents from another seed and save it as a next release, to check "
                    "patches on with `patchlab patches port`. After Ctrl-C the same command resumes; at most 50 steps are lost.")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the model")
    verb.add_argument("--steps", type=whole(1), default=200, metavar="N",
                      help="training steps; more steps differ more from the base (default: 200)")
    verb.add_argument("--seed", type=whole(0), default=next.SEED, metavar="S",
                      help=f"seed of the documents (default: {next.SEED})")
    verb.set_defaults(run=_next)
    return top


def _build(args: argparse.Namespace) -> None:
    if args.data and not args.data.is_dir():
        raise InputError(f"no folder {args.data}", expected="a folder of public data sets", do="check the path")
    _finish(args, build.build_all(build.Plan(out=args.out, work=args.work, data=args.data, seed=args.seed)))


def _next(args: argparse.Namespace) -> None:
    source = Path(preset("pocket").source("base"))
    _finish(args, next.next_release(next.Release(source=source, out=args.out, steps=args.steps, seed=args.seed)))


def _finish(args: argparse.Namespace, steps: Iterator[Progress]) -> None:
    """Show the progress, then print the output folder."""
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
