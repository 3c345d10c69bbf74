"""`patchlab score`: numbers for the texts of a file."""

from __future__ import annotations

import argparse
import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchlab.cli.options import add_json
from patchlab.cli.output import emit, plain
from patchlab.errors import InputError
from patchlab.scoring import load_scorer
from patchlab.storage import read_jsonl

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs

ADDED = ("score", "flagged", "label")
CHUNK = 256  # rows scored and printed together


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
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
