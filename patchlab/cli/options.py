"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from patchlab.patches.stack import MODES, Stack
from patchlab.registry import lookup

if TYPE_CHECKING:  # the class has parameters for type checkers only
    from patchlab.engine import Lab

    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


FILES = "FILE (JSON Lines, JSON, CSV, TSV, Parquet, gzip of the texts), - for standard input, or hub:OWNER/DATASET[#SPLIT]"


def add_models(parser: argparse.ArgumentParser) -> None:
    """Which models: a preset, or any base with or without a reference."""
    parser.add_argument("--preset", metavar="NAME",
                        help="the base and reference to load by name (default: pocket, which comes with PatchLab)")
    parser.add_argument("--base", metavar="MODEL", help="any model in place of a preset: a folder, a GGUF file or a Hub id")
    parser.add_argument("--reference", metavar="MODEL",
                        help="a safer model to compare with, given in the same way (default: the preset's; with --base none)")
    parser.add_argument("--device", metavar="D", help="where to load them, as cpu or cuda:1 (default: a GPU if there is one)")
    parser.add_argument("--bits", type=int, choices=(8, 4), metavar="N",
                        help="load the layers of both models in 8 or 4 bits, to save memory; needs bitsandbytes (default: as "
                             "they are)")


def read_models(args: argparse.Namespace, *, device: str | None = None) -> Lab:
    """The models that the options name, loaded. Raises as `patchlab.load`."""
    if args.preset and args.base:
        args.refuse("--preset and --base both name a base: give one of them")
    from patchlab.engine import load

    return load(args.preset, base=args.base, reference=args.reference, device=device or args.device, bits=args.bits)


def add_suites(parser: argparse.ArgumentParser, help: str) -> None:
    """Which suites to measure in."""
    parser.add_argument("--suite", metavar="NAME,...", help=help)


def read_suites(args: argparse.Namespace) -> list[str]:
    """The suites that --suite names, none where it is not given; a name that is wrong is found out before models are loaded."""
    if args.suite is None:
        return []
    from patchlab import evaluation

    suites: list[str] = [name.strip() for name in args.suite.split(",")]
    for name in suites:
        evaluation.suite(name)
    return suites


def add_stack(parser: argparse.ArgumentParser) -> None:
    """Which patches are on, and how they are combined."""
    parser.add_argument("--stack", default="none", metavar="PATCHES",
                        help="patches of the patched lane, as NAME[@VERSION][:STRENGTH] joined by commas, "
                             "for example toxicity,refusal:0.5 (default: none)")
    parser.add_argument("--mode", default=MODES[0], choices=MODES,
                        help="how several patches are combined: parallel, side by side, where order has no effect; sequential, "
                             "embeddings concatenated; blend, changes to the log-probabilities added, at the cost of one more "
                             f"forward row per patch (default: {MODES[0]})")
    parser.add_argument("--gates", default="off", choices=("off", "on"),
                        help="on: a patch that has a gate is used only for prompts that its gate selects (default: off, every "
                             "patch of the stack is used for every prompt)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Results for programs."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_strict(parser: argparse.ArgumentParser) -> None:
    """What becomes of rows that cannot be used."""
    parser.add_argument("--strict", action="store_true",
                        help="end at the first row of a file that cannot be used (default: skip such rows and report how many)")


def read_stack(args: argparse.Namespace) -> Stack:
    """The stack of `--stack`, `--mode` and `--gates`. Raises StackError, or NotFoundError before any model is loaded."""
    stack = Stack.parse(args.stack, mode=args.mode, gates=args.gates == "on")
    found = [lookup(entry.name, entry.version) for entry in stack.entries]
    if stack.gates and not any(each.manifest.gated for each in found):
        print("patchlab: no patch of the stack has a gate, so gates change nothing", file=sys.stderr)
    return stack


def whole(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`."""
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text[:80]} is not from {low} to {high}")
        return value
    return read
