"""`patchlab score`: numbers for the texts of a file."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from patchlab.cli.options import FILES, add_json, add_strict
from patchlab.cli.output import emit, plain, tell
from patchlab.errors import InputError
from patchlab.rows import Row, Rows
from patchlab.scoring import load_scorer

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs

ADDED = ("score", "flagged", "label")
CHUNK = 256  # rows scored and printed together


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "score", allow_abbrev=False, help="score texts of a file",
        description="Score the texts of a file and print every row with its score from 0 (best) to 1 (worst), whether that "
                    "is flagged, and the verdict in a word.")
    parser.add_argument("file", metavar="FILE", help=f"{FILES}; rows with a text")
    parser.add_argument("--scorer", required=True, metavar="NAME",
                        help="toxicity, refusal, their second judges toxicity-2 and refusal-2, or a classifier of the"
                             " Hub as hub:MODEL or hub:MODEL#LABEL")
    parser.add_argument("--text-column", default="text", metavar="KEY", help="where the text is (default: text)")
    parser.add_argument("--prompt-column", default="prompt", metavar="KEY",
                        help="where the prompt it answers is, in rows that have one (default: prompt)")
    add_strict(parser)
    add_json(parser)
    parser.set_defaults(run=score)


def score(args: argparse.Namespace) -> None:
    """Print every row with its score, a chunk at a time; those before a row that ends the run are printed too."""
    scorer = load_scorer(args.scorer)
    notes: list[str] = []
    replaced: set[str] = set()
    rows = Rows(args.file, strict=args.strict, notes=notes)
    try:
        for chunk in _chunks(rows.each(lambda row: (row, _text(row, args.text_column)))):
            # an empty prompt reads as none
            asked = [str(row.get(args.prompt_column) or "") for row, _ in chunk]
            for (row, text), found in zip(chunk, scorer.score([text for _, text in chunk], asked), strict=True):
                replaced |= row.keys() & set(ADDED)
                if args.json:
                    emit(row | {"score": round(found.value, 6), "flagged": found.flagged, "label": found.label})
                else:
                    print(f"{found.value:.3f}  {found.label:<9}  {textwrap.shorten(plain(text), 90, placeholder=' …')}")
    finally:
        tell(notes)
    if args.json and replaced:
        tell([f"the file's own {', '.join(sorted(replaced))} was replaced"])


def _chunks(rows: Iterator[tuple[Row, str]]) -> Iterator[list[tuple[Row, str]]]:
    chunk: list[tuple[Row, str]] = []
    try:
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
    except InputError:
        if chunk:
            yield chunk  # what came before the row that ends the run
        raise
    if chunk:
        yield chunk


def _text(row: Row, column: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        found = f"{column!r} of type {type(text).__name__}" if column in row else f"no {column!r}"
        raise InputError(found, expected=f"a text in {column!r}",
                         do=f"fix the row, or name another of its keys with --text-column: {', '.join(map(str, row))[:200]}")
    return text
