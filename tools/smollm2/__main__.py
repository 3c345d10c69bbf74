"""`python -m tools.smollm2 refusal` trains a refusal patch of SmolLM2-135M-Instruct on public data."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from patchlab.cli.options import whole
from patchlab.cli.progress import shown
from patchlab.cli.shell import run
from patchlab.errors import InputError
from tools.smollm2 import training

PROGRAM = "python -m tools.smollm2"


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    verb = verbs.add_parser(
        "refusal", allow_abbrev=False, help="train the refusal patch",
        description="Train the refusal patch and save it in DIR/patches. After Ctrl-C the same command resumes.")
    verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of public safety data")
    verb.add_argument("--work", type=Path, default=Path("runs/smollm2"), metavar="DIR",
                      help="folder of unfinished work and of the patch (default: runs/smollm2)")
    verb.add_argument("--steps", type=whole(1), default=training.RECIPE.sft_steps, metavar="N",
                      help=f"SFT steps (default: {training.RECIPE.sft_steps})")
    verb.add_argument("--behind", type=whole(0), default=0, metavar="TOKENS",
                      help="half of the batches have earlier turns of up to so many tokens (default: 0)")
    verb.set_defaults(run=_refusal)
    return top


def _refusal(args: argparse.Namespace) -> None:
    if not args.data.is_dir():
        raise InputError(f"no folder {args.data}", expected="a folder of public data sets", do="check the path")
    try:
        for _ in shown(training.refusal_patch(args.data, args.work, steps=args.steps, behind=args.behind)):
            pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; go on with: {PROGRAM} {shlex.join(args.words)}") from None
    print(args.work / "patches")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    return run(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
