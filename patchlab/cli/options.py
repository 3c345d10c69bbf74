"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from patchlab.cli.output import tell
from patchlab.patches.profile import Profile
from patchlab.patches.stack import MODES, PLACEMENTS, Stack
from patchlab.registry import Installed, default_registry, lookup
from patchlab.registry.profiles import SECOND_LANE, check_profile

if TYPE_CHECKING:
    from patchlab.engine import Lab

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # quoted: only type checkers can subscript this class
PATCH = "an installed patch, as NAME or NAME@VERSION"
FILES = ("FILE is a path (JSON Lines, JSON, CSV or TSV, also with gzip, or Parquet), - for standard input, or "
         "hub:OWNER/DATASET[#SPLIT]")


def add_models(parser: argparse.ArgumentParser, *, preset: str = "pocket, which is included") -> None:
    """Add the options that choose the models: a preset, or any base with an optional reference."""
    parser.add_argument("--preset", metavar="NAME",
                        help="load this preset, a base with its reference; `patchlab doctor` lists them (default: "
                             f"{preset})")
    parser.add_argument("--base", metavar="MODEL", help="load any base instead: a folder, a GGUF file or a Hub id")
    parser.add_argument("--reference", metavar="MODEL",
                        help="safer model to compare with: a folder, a GGUF file or a Hub id of a model, or of a LoRA adapter of "
                             "the base (default: the preset's reference; none with --base)")
    parser.add_argument("--device", metavar="D", help="device for the models, for example cpu or cuda:1 (default: a GPU if "
                                                      "there is one)")
    parser.add_argument("--bits", type=int, choices=(8, 4), metavar="N",
                        help="quantize the layers of both models to 8 or 4 bits to save memory; needs bitsandbytes (default: "
                             "no quantization)")


def read_models(args: argparse.Namespace, *, device: str | None = None) -> Lab:
    """Load the models that the options name. Raises as `patchlab.load`."""
    if args.preset and args.base:
        args.refuse("--preset and --base both name a base: give one of them")
    from patchlab.engine import load

    lab = load(args.preset, base=args.base, reference=args.reference, device=device or args.device, bits=args.bits)
    if args.preset and lab.reference is None:
        tell([f"preset {args.preset} has no reference here: base and patched are compared"])
    for path in filter(None, (getattr(args, "profile", None), getattr(args, "second_profile", None))):
        Profile.read(path).check_base(lab.base.fingerprints)
    return lab


def add_measuring(parser: argparse.ArgumentParser, *, n: int) -> None:
    """Add the number of prompts, by default `n`, and the seed of a measurement."""
    parser.add_argument("--n", type=whole(1), default=n, metavar="N", help=f"maximum number of prompts per file (default: {n})")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="random seed; the same seed reproduces the same numbers (default: 0)")


def read_suites(args: argparse.Namespace) -> list[str]:
    """The suites in --suite, an empty list without the option. Raises NotFoundError for an unknown one before models load."""
    if args.suite is None:
        return []
    from patchlab import evaluation

    suites: list[str] = [name.strip() for name in args.suite.split(",")]
    for name in suites:
        evaluation.suite(name)
    return suites


def add_stack(parser: argparse.ArgumentParser, *, profile: bool = True) -> None:
    """Add the options that choose the patches and how they are combined, by a profile too."""
    if profile:
        parser.add_argument("--profile", type=Path, metavar="FILE",
                            help="the stack of a client, pinned to versions, digests and strengths by `patchlab patches pin`, in "
                                 "place of --stack, --mode, --gates and --placement")
    parser.add_argument("--stack", default="none", metavar="PATCHES",
                        help="patches of the patched lane, as NAME[@VERSION][:STRENGTH] joined by commas, "
                             "for example toxicity,refusal:0.5 (default: none)")
    parser.add_argument("--mode", default=MODES[0], choices=MODES,
                        help="how several patches are combined: parallel, side by side, where order has no effect; sequential, "
                             "embeddings concatenated; blend, changes to the log-probabilities added, at the cost of one more "
                             f"forward row per patch (default: {MODES[0]})")
    parser.add_argument("--gates", choices=("off", "on"),
                        help="on: a patch that has a gate is used only for prompts that its gate selects; off: every patch of "
                             "the stack is used for every prompt (default: on with preset smollm2, else off)")
    parser.add_argument("--placement", default=PLACEMENTS[0], choices=PLACEMENTS,
                        help="where the patches stand in a conversation: turn, right before the current turn, where they keep "
                             "their effect; front, before the whole conversation, for comparison (default: turn)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add --strict, for invalid rows of a file."""
    parser.add_argument("--strict", action="store_true",
                        help="end at the first row of a file that cannot be used (default: skip such rows and report how many)")


def read_stack(args: argparse.Namespace) -> Stack:
    """The stack of --profile, or of --stack, --mode, --gates and --placement.

    Raises StackError, NotFoundError, or TamperedError for another patch than a profile pins, before any model is loaded.
    """
    if getattr(args, "profile", None):
        if (args.stack, args.mode, args.gates, args.placement) != ("none", MODES[0], None, PLACEMENTS[0]):
            args.refuse("--profile has a stack, mode, gates and placement of its own: leave out the other options")
        profile = Profile.read(args.profile)
        check_profile(profile, default_registry())
        return profile.stack
    stack = Stack.parse(args.stack, mode=args.mode, gates=(args.gates or _usual_gates(args)) == "on", placement=args.placement)
    patches = [lookup(entry.name, entry.version) for entry in stack.entries]
    if args.gates == "on" and not any(patch.manifest.gated for patch in patches):
        print("patchlab: --gates on has no effect: no patch of the stack has a gate", file=sys.stderr)
    return stack


def read_second(args: argparse.Namespace) -> dict[str, Stack]:
    """The lane of --second-profile with its stack; nothing without the option. Raises as `read_stack`."""
    if not args.second_profile:
        return {}
    profile = Profile.read(args.second_profile)
    check_profile(profile, default_registry())
    return {SECOND_LANE.format(name=profile.name): profile.stack}


def _usual_gates(args: argparse.Namespace) -> str:
    """Whether gates are on for the models that are asked for, where --gates does not say."""
    if not getattr(args, "preset", None):
        return "off"
    from patchlab.models.presets import PRESETS  # loads torch, which the models need anyway

    return "on" if args.preset in PRESETS and PRESETS[args.preset].gates else "off"


def find_patch(text: str) -> Installed:
    """The installed patch of NAME or NAME@VERSION. Raises NotFoundError."""
    name, _, version = text.partition("@")
    return lookup(name, version or None)


def whole(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`."""
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text[:80]} is not between {low} and {high}")
        return value
    return read
