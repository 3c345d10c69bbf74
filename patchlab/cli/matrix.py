"""`patchlab patches matrix`: what every two patches do to each other, measured once and kept beside them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli.options import add_json, add_models, add_suites, read_models, read_suites, whole
from patchlab.cli.output import emit, table
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.patches.compatibility import SIDE, warnings
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, label
from patchlab.patches.stack import MODES, Mode, Stack
from patchlab.registry import Installed, lookup
from patchlab.registry.interaction_files import FILE, place_of
from patchlab.validation import dump

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs


def add(actions: Verbs) -> None:
    """Add the verb to those of `patches`."""
    parser = actions.add_parser(
        "matrix", allow_abbrev=False, help="measure what patches do to each other",
        description="Measure every patch alone and every pair: each patch's own effect in the suite of its domain, harmless "
                    "requests refused, and drift from the base; each pair is compared with its patches alone on the same "
                    f"prompts. The result is kept beside the patches ({FILE}), where the page and patchlab compare find it. "
                    "Every finished row is kept at once; the same command goes on, and measures again only what has changed.")
    add_models(parser)
    parser.add_argument("--patches", default="", metavar="NAME,...",
                        help="patches to measure, as NAME or NAME@VERSION (default: the newest of each that fits the base)")
    parser.add_argument("--mode", default=MODES[0], choices=MODES,
                        help="how pairs are combined; sequential measures both orders of each (default: parallel)")
    add_suites(parser, "suites to measure in (default: those of the patches' domains, overrefusal and drift)")
    parser.add_argument("--n", type=whole(1), default=150, metavar="N", help="most prompts a file (default: 150)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="the same seed gives the same figures (default: 0)")
    parser.add_argument("--out", type=Path, metavar="F.json",
                        help=f"keep the result in this file (default: {FILE} in the folder where the patches lie)")
    add_json(parser)
    parser.set_defaults(run=measure, refuse=parser.error)


def measure(args: argparse.Namespace) -> None:
    """Measure what is not known yet, then print every row of these patches in this mode."""
    asked = Stack.parse(args.patches)
    for entry in asked.entries:
        lookup(entry.name, entry.version)  # an unknown name is an error before any model is loaded
    from patchlab import evaluation

    suites = read_suites(args)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is found out before the work
        if args.out.is_dir():
            raise InputError(f"{args.out} is a folder", expected="a file to write", do=f"choose one in it, as {args.out / FILE}")
    lab = read_models(args)
    patches = [lab.planner.find(entry.name, entry.version) for entry in asked.entries] or lab.planner.installed()
    out = args.out or place_of(patches)
    try:
        for found in shown(evaluation.matrix(lab, patches, out=out, mode=args.mode, suites=suites, n=args.n, seed=args.seed)):
            rows = list(_rows(found, patches, args.mode, lab.base.identity.fingerprint))
            if args.json:
                _emit(rows)
            else:
                _print(rows, patches, found, args.mode, out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {out} has every finished row; go on with the same command") from None


def _rows(found: Interactions, patches: Sequence[Installed], mode: Mode, base: str) -> Iterator[InteractionRow]:
    """The rows of these patches: without any, alone, in pairs."""
    wanted = {label(one.manifest) for one in patches}
    rows = found.fresh(one.manifest for one in patches).rows
    yield from sorted((row for row in rows if row.base == base and {*row.stack} <= wanted
                       and (row.mode == mode or not row.stack)), key=lambda row: (len(row.stack), row.stack))


def _emit(rows: Sequence[InteractionRow]) -> None:
    for row in rows:
        for cell in row.cells:
            figure: dict[str, Any] = {name: value for name, value in dump(cell).items() if name != "values"}
            emit({"stack": list(row.stack), "mode": row.mode, **figure, "fights": cell in row.fights})


def _print(rows: Sequence[InteractionRow], patches: Sequence[Installed], found: Interactions, mode: Mode, out: Path) -> None:
    head = ("stack", "suite", "metric", "whose", "value", "95 % interval", "n", "change", "95 % interval", "against", "scorer",
            "")
    print(table([head, *(_cells(row, cell) for row in rows for cell in row.cells)]))
    print("\nA change is in points (hundredths), of drift in nats, on the same prompts; positive is better.")
    manifests = [one.manifest for one in patches]
    said = [words for one, other in combinations(manifests, 2)
            for pair in ([(one, other), (other, one)] if mode == "sequential" else [(one, other)])
            for words in warnings(pair, mode, found) if one.name != other.name]
    print("\n".join(said) or f"No two of these patches are known to fight {SIDE[mode]}.")
    print(f"kept in {out}")


def _cells(row: InteractionRow, cell: Cell) -> tuple[str, ...]:
    joined = " then " if row.mode == "sequential" else " + "
    return (joined.join(row.stack) or "none", cell.suite, cell.metric, cell.patch, _figure(cell.value, cell.n),
            f"{cell.low:.3f} to {cell.high:.3f}" if cell.n else "", str(cell.n), *_change(cell.change), cell.scorer,
            "FIGHTS" if cell in row.fights else "")


def _change(change: Change | None) -> tuple[str, str, str]:
    if change is None or not change.known:
        return "", "", ""
    places = 1 if change.unit == "points" else 3
    return (f"{change.value:+.{places}f}", f"{change.low:+.{places}f} to {change.high:+.{places}f}",
            ", ".join(change.against) or "none")


def _figure(value: float, n: int) -> str:
    return f"{value:.3f}" if n else "none"
