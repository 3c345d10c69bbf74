"""`patchlab score` and `patchlab evaluate`: numbers for texts at hand, and for what a stack makes of whole suites."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli.options import add_json, add_preset, add_stack, read_stack, whole
from patchlab.cli.output import emit, plain, table
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.files import read_jsonl
from patchlab.records import Measure, Report
from patchlab.scoring import load_scorer

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs

ADDED = ("score", "flagged", "label")
CHUNK = 256  # rows scored and printed together


def add(verbs: Verbs) -> None:
    """Add the verbs to the parser."""
    parser = verbs.add_parser(
        "score", allow_abbrev=False, help="score texts of a file",
        description="Score the texts of a JSON Lines file and print every row with its score from 0 (best) to 1 "
                    "(worst), whether that is flagged, and the verdict in a word.")
    parser.add_argument("file", type=Path, metavar="F.jsonl", help="one JSON object with a text a line")
    parser.add_argument("--scorer", required=True, metavar="NAME",
                        help="toxicity, refusal, their second judges toxicity-2 and refusal-2, or a classifier of the"
                             " Hub as hub:MODEL or hub:MODEL#LABEL")
    parser.add_argument("--text-column", default="text", metavar="KEY", help="where the text is (default: text)")
    parser.add_argument("--prompt-column", default="prompt", metavar="KEY",
                        help="where the prompt it answers is, in rows that have one (default: prompt)")
    add_json(parser)
    parser.set_defaults(run=score)

    parser = verbs.add_parser(
        "evaluate", allow_abbrev=False, help="measure a stack on suites",
        description="Draw replies of every lane on each suite and print the metrics with 95 % intervals.")
    add_preset(parser)
    add_stack(parser)
    parser.add_argument("--suite", default="", metavar="NAME,...", help="suites to measure on (default: all)")
    parser.add_argument("--n", type=whole(1), default=300, metavar="N", help="most prompts a file (default: 300)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="the same seed gives the same figures (default: 0)")
    add_json(parser)
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="also write report.json, report.md and replies.jsonl there")
    parser.set_defaults(run=evaluate)


def score(args: argparse.Namespace) -> None:
    """Print every row with its score, a chunk at a time. Raises InputError naming the row without a text."""
    scorer = load_scorer(args.scorer)
    replaced: set[str] = set()
    rows = enumerate(read_jsonl(args.file), 1)
    while chunk := list(islice(rows, CHUNK)):
        texts = [_text(row, args.text_column, f"{args.file} row {number}") for number, row in chunk]
        # an empty prompt reads as none
        asked = [str(row.get(args.prompt_column) or "") for _, row in chunk]
        for (_, row), text, found in zip(chunk, texts, scorer.score(texts, asked), strict=True):
            replaced |= row.keys() & set(ADDED)
            if args.json:
                emit(row | {"score": round(found.value, 6), "flagged": found.flagged, "label": found.label})
            else:
                print(f"{found.value:.3f}  {found.label:<9}  {textwrap.shorten(plain(text), 90, placeholder=' …')}")
    if args.json and replaced:
        print(f"patchlab: the file's own {', '.join(sorted(replaced))} was replaced", file=sys.stderr)


def _text(row: dict[str, Any], column: str, where: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        has = f"{column!r} of type {type(text).__name__}" if column in row else f"no {column!r}"
        raise InputError(f"{where} has {has}", expected=f"a text in {column!r}",
                         do=f"fix the row, or name another of its keys with --text-column: {', '.join(row)[:200]}")
    return text


def evaluate(args: argparse.Namespace) -> None:
    """Print the measures of a stack, and write the report where asked."""
    stack = read_stack(args)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is found out before the work
    from patchlab import evaluation
    from patchlab.engine import load_trio

    suites = [name.strip() for name in args.suite.split(",") if name.strip()]
    steps = evaluation.evaluate(load_trio(args.preset), stack=stack, suites=suites, n=args.n, seed=args.seed)
    for report in shown(steps):
        if args.out:
            evaluation.write_report(report, args.out)
        _print_report(report, json=args.json)


def _print_report(report: Report, *, json: bool) -> None:
    if json:
        for measure in report.measures:
            emit(dataclasses.asdict(measure))
    else:
        print(table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer"), *_cells(report.measures)]))


def _cells(measures: Sequence[Measure]) -> Iterator[tuple[str, ...]]:
    for m in measures:
        known = not math.isnan(m.value)
        yield (m.suite, m.metric, m.lane, f"{m.value:.3f}" if known else "none",
               f"{m.low:.3f} to {m.high:.3f}" if known else "", str(m.n), m.scorer)
