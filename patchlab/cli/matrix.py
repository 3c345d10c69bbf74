"""`patchlab patches matrix`: how patches change each other's effects, measured once and stored beside them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

from patchlab.cli.options import Verbs, add_json, add_measuring, add_models, read_models, read_suites
from patchlab.cli.output import emit, table
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.patches.compatibility import SIDE, warnings
from patchlab.patches.interactions import LARGEST, Cell, Change, InteractionRow, Interactions, label
from patchlab.patches.stack import MODES, Mode, Stack
from patchlab.registry import Installed, lookup
from patchlab.registry.interaction_files import FILE, place_of
from patchlab.validation import dump


def add(actions: Verbs) -> None:
    """Add the verb to those of `patches`."""
    parser = actions.add_parser(
        "matrix", allow_abbrev=False, help="measure how patches change each other's effects",
        description="Measure every patch alone and every pair: each patch on the suite of its domain, the refusal rate on "
                    "harmless requests, and the KL divergence to the base. Each pair is compared with its patches alone on the "
                    f"same prompts. The result is stored beside the patches ({FILE}), where the page and patchlab compare read "
                    "it. Every finished row is stored at once; the same command continues, and measures again only what changed.")
    add_models(parser)
    parser.add_argument("--patches", default="", metavar="NAME,...",
                        help="patches to measure, as NAME or NAME@VERSION (default: the newest of each patch of the base)")
    parser.add_argument("--mode", default=MODES[0], choices=MODES,
                        help=f"how pairs are combined; sequential measures both orders of each pair (default: {MODES[0]})")
    parser.add_argument("--suite", metavar="NAME,...",
                        help="suites to measure on (default: those of the patches' domains, overrefusal and drift)")
    parser.add_argument("--triples", action="store_true", help="measure every three patches as well as every pair")
    add_measuring(parser, n=150)
    parser.add_argument("--out", type=Path, metavar="F.json",
                        help=f"file for the result (default: {FILE} in the folder that holds the patches)")
    add_json(parser)
    parser.set_defaults(run=measure, refuse=parser.error)


def measure(args: argparse.Namespace) -> None:
    """Measure the rows that are missing, then print all rows of these patches in this mode."""
    entries = Stack.parse(args.patches).entries
    for entry in entries:
        lookup(entry.name, entry.version)  # an unknown name is an error before any model is loaded
    from patchlab import evaluation

    suites = read_suites(args)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is an error before the work
        if args.out.is_dir():
            raise InputError(f"{args.out} is a folder", expected="a file to write", do=f"choose one in it, as {args.out / FILE}")
    lab = read_models(args)
    patches = [lab.planner.find(entry.name, entry.version) for entry in entries] or lab.planner.installed()
    out = args.out or place_of(patches)
    steps = evaluation.matrix(lab, patches, out=out, mode=args.mode, suites=suites, n=args.n, seed=args.seed,
                              triples=args.triples)
    for interactions in shown(steps, resume=f"{out} contains every finished row; repeat the same command to continue"):
        rows = _rows(interactions, patches, args.mode, lab.base.identity.fingerprint)
        if args.json:
            _emit(rows)
        else:
            _print(rows, patches, interactions, args.mode)
            print(f"stored in {out}")


def _rows(interactions: Interactions, patches: Sequence[Installed], mode: Mode, base: str) -> list[InteractionRow]:
    """The rows of these patches on this base: no patch, single patches, pairs."""
    labels = {label(one.manifest) for one in patches}
    rows = [row for row in interactions.fresh(one.manifest for one in patches).rows
            if row.base == base and {*row.stack} <= labels and (row.mode == mode or not row.stack)]
    return sorted(rows, key=lambda row: (len(row.stack), row.stack))


def _emit(rows: Sequence[InteractionRow]) -> None:
    for row in rows:
        for cell in row.cells:
            figures = {name: value for name, value in dump(cell).items() if name != "values"}
            emit({"stack": list(row.stack), "mode": row.mode, **figures, "fights": cell in row.fights})


def _print(rows: Sequence[InteractionRow], patches: Sequence[Installed], interactions: Interactions, mode: Mode) -> None:
    head = ("stack", "suite", "metric", "patch", "value", "95 % interval", "n", "change", "95 % interval", "against", "scorer",
            "")
    print(table([head, *(_cells(row, cell) for row in rows for cell in row.cells)]))
    print("\nChanges are paired by prompt, in percentage points (drift: nats per token); positive is better.")
    choose, manifests = permutations if mode == "sequential" else combinations, [one.manifest for one in patches]
    stacks = [stack for size in range(2, LARGEST + 1) for stack in choose(manifests, size)]
    lines = dict.fromkeys(line for stack in stacks if len({one.name for one in stack}) == len(stack)
                          for line in warnings(stack, mode, interactions))
    print("\n".join(lines) or f"No two of these patches are known to conflict {SIDE[mode]}.")


def _cells(row: InteractionRow, cell: Cell) -> tuple[str, ...]:
    joined = " then " if row.mode == "sequential" else " + "
    return (joined.join(row.stack) or "none", cell.suite, cell.metric, cell.patch, f"{cell.value:.3f}" if cell.n else "none",
            f"{cell.low:.3f} to {cell.high:.3f}" if cell.n else "", str(cell.n), *_change(cell.change), cell.scorer,
            "CONFLICT" if cell in row.fights else "")


def _change(change: Change | None) -> tuple[str, str, str]:
    if change is None or not change.known:
        return "", "", ""
    places = 1 if change.unit == "points" else 3
    return (f"{change.value:+.{places}f}", f"{change.low:+.{places}f} to {change.high:+.{places}f}",
            ", ".join(change.against) or "none")
