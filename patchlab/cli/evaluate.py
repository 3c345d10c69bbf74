"""`patchlab score` and `patchlab evaluate`: numbers for texts at hand, and for what a stack makes of whole suites."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli.options import add_bits, add_json, add_preset, add_stack, add_suites, read_stack, read_suites, whole
from patchlab.cli.output import emit, plain, table
from patchlab.cli.progress import shown
from patchlab.errors import InputError
from patchlab.records import Report
from patchlab.scoring import load_scorer
from patchlab.storage import read_jsonl

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
        description="Draw replies of every lane on each suite and print the metrics with 95 % intervals. The suites of "
                    "public data sets read the prompts you give them. Ctrl-C loses no reply that went to --out; the same "
                    "command goes on.")
    add_preset(parser)
    add_bits(parser)
    add_stack(parser)
    add_suites(parser, "suites to measure on (default: all embedded ones: toxicity, bias, refusal, overrefusal, fluency, drift, "
                       "helpfulness). Other prompts by NAME=FILE.jsonl or NAME=hub:OWNER/DATASET#SPLIT; so given, NAME may also "
                       "be a public set: realtoxicityprompts, xstest, harmbench, advbench, winogender or bold")
    parser.add_argument("--n", type=whole(1), default=300, metavar="N", help="most prompts a file (default: 300)")
    parser.add_argument("--samples", type=whole(1), metavar="K", help="replies a prompt (default: what the suite says)")
    parser.add_argument("--judge", metavar="MODEL",
                        help="a model's folder or Hub id that says how natural and how much on the topic replies are "
                             "(default: the reference for base and patched, the base for the reference)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="the same seed gives the same figures (default: 0)")
    add_json(parser)
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="keep every reply there as it is finished (replies.jsonl), and write report.json, report.md "
                             "and report.html")
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
    from patchlab.models import Backbone

    suites = read_suites(args)
    judge = Backbone.load(args.judge) if args.judge else None
    steps = evaluation.evaluate(load_trio(args.preset, bits=args.bits), stack=stack, suites=suites, n=args.n, seed=args.seed,
                                samples=args.samples, judge=judge, out=args.out)
    try:
        for report in shown(steps):
            if args.out:
                evaluation.write_report(report, args.out)
            _print_report(report, json=args.json)
    except KeyboardInterrupt:
        kept = "; go on with the same command" if args.out else "; with --out nothing would be lost"
        raise KeyboardInterrupt(f"stopped{kept}") from None


def _print_report(report: Report, *, json: bool) -> None:
    from patchlab.evaluation import rows

    found = rows(report)
    if json:
        for row in found:
            emit(row)
        return
    print(table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer", "second scorer", "lane before"),
                 *map(_cells, found)]))
    for note in report.notes:
        print(f"patchlab: {plain(note)}", file=sys.stderr)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    second = f"{_figure(row['second'])} {row['second']['scorer']}" if "second" in row else ""
    versus = f"{row['versus']['difference']:+.3f}, p = {row['versus']['p']:.4f}" if _known(row.get("versus")) else ""
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else ""
    return (row["suite"], row["metric"], row["lane"], _figure(row), interval, str(row["n"]), row["scorer"], second, versus)


def _figure(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f}" if row["value"] is not None else "none"


def _known(versus: Mapping[str, Any] | None) -> bool:
    return versus is not None and versus["p"] is not None
