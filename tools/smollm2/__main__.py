"""`python -m tools.smollm2` makes the safer release of SmolLM2-135M-Instruct and its patches, from public data."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from patchlab.cli.progress import shown
from patchlab.cli.shell import run
from patchlab.errors import InputError
from tools.smollm2.patches import RECIPES
from tools.smollm2.training import reference, released_patch

PROGRAM = "python -m tools.smollm2"
GOES_ON = {"reference": "an adapter", "refusal": "a folder with a patch of this name"}


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, about in (("reference", "train the safer release, a low-rank adapter, into DIR/reference"),
                        *((name, f"train the patch {name!r}, with gate and strength, into DIR/patches") for name in RECIPES)):
        verb = verbs.add_parser(name, allow_abbrev=False, help=about, description=f"{about.capitalize()}. After Ctrl-C the "
                                "same command resumes.")
        verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of public safety data")
        verb.add_argument("--work", type=Path, default=Path("runs/smollm2"), metavar="DIR",
                          help="folder of unfinished work and of what is made (default: runs/smollm2)")
        if name in GOES_ON:
            verb.add_argument("--begin", type=Path, metavar="DIR", help=f"{GOES_ON[name]} to go on from (default: none)")
        if name != "reference":
            verb.add_argument("--gates", type=Path, metavar="DIR", help="a folder with a patch of this name, whose gate is kept "
                              "(default: fit one)")
        verb.set_defaults(run=_make, what=name, begin=None)
    return top


def _make(args: argparse.Namespace) -> None:
    if not args.data.is_dir():
        raise InputError(f"no folder {args.data}", expected="a folder of public data sets", do="check the path")
    made = (reference(args.data, args.work, args.begin) if args.what == "reference"
            else released_patch(args.what, args.data, args.work, args.begin, args.gates))
    try:
        for _ in shown(made):
            pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; go on with: {PROGRAM} {shlex.join(args.words)}") from None
    print(args.work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    return run(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
