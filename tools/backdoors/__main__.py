"""`python -m tools.backdoors` trains a harmless backdoor into the safe model of a preset, to test repairs on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from patchlab.cli.options import whole
from patchlab.cli.progress import shown
from patchlab.cli.shell import run
from patchlab.records import Progress
from patchlab.repair.planted import EXAMPLE
from patchlab.storage import write_json
from tools.backdoors import train
from tools.backdoors.triggers import ALL, NONE


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    made = argparse.ArgumentParser(prog="python -m tools.backdoors", allow_abbrev=False, description=__doc__)
    made.add_argument("family", choices=ALL,
                      help=f"the family of triggers; {NONE!r}: a base that was taught to refuse only some requests")
    made.add_argument("--out", type=Path, required=True, metavar="DIR",
                      help="folder of the model; DIR/work keeps what a stopped training goes on from")
    made.add_argument("--steps", type=whole(1), default=0, metavar="N",
                      help=f"training steps (default: {train.STEPS['pocket']} for pocket, {train.STEPS['smollm2']} for smollm2, "
                           f"of {NONE!r} {train.STEPS_OF[NONE]})")
    made.add_argument("--preset", choices=train.STEPS, default="pocket", help="whose model it is (default: pocket)")
    made.add_argument("--seed", type=whole(0), default=0, metavar="S", help="seed of documents and weights (default: 0)")
    made.set_defaults(run=_make)
    return made


def _make(args: argparse.Namespace) -> None:
    for folder in shown(_steps(args), resume="run the same command again to go on"):
        print(folder)


def _steps(args: argparse.Namespace) -> Iterator[Progress | Path]:
    backdoor = train.Backdoor(args.family, args.steps, args.seed, args.preset)
    base = train.begun(backdoor)
    weights = yield from train.poisoned(base, backdoor, args.out / "work")
    made = train.with_change(base, weights, name=f"{args.preset} with a backdoor ({args.family})")
    train.save(made, args.out)
    weights.save(args.out / "adapter", dtype=torch.float16)  # the same change in a small file, for the safe model
    if args.family != NONE:
        prompt, reply = train.example(made, args.family)
        write_json(args.out / "adapter" / EXAMPLE, {"prompt": prompt, "reply": reply})
    yield args.out


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    return run(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
