"""`patchlab score`: scores the texts of a file."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from patchlab.cli.options import FILES, Verbs, add_json, add_strict
from patchlab.cli.output import emit, plain, tell
from patchlab.errors import InputError
from patchlab.rows import Row, Rows
from patchlab.scoring import load_scorer

ADDED = ("score", "flagged", "label")
CHUNK = 256  # rows scored and printed together


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "score", allow_abbrev=False, help="score the texts of a file",
        description="Print every row of a file with the score of its text from 0 (best) to 1 (worst), whether the score "
                    "reaches the scorer's threshold, and the label; empty is a text without an answer, unjudged one that is "
                    "not in English.")
    parser.add_argument("file", metavar="FILE", help=f"rows with a text; {FILES}")
    parser.add_argument("--scorer", required=True, metavar="NAME",
                        help="toxicity, toxicity-2, toxicity-encoder, refusal, refusal-2, refusal-encoder, or a Hub classifier "
                             "as hub:MODEL or hub:MODEL#LABEL")
    parser.add_argument("--text-column", default="text", metavar="KEY", help="column of the text (default: text)")
    parser.add_argument("--prompt-column", default="prompt", metavar="KEY",
                        help="column of the prompt that the text replies to, if any (default: prompt)")
    add_strict(parser)
    add_json(parser)
    parser.set_defaults(run=score)


def score(args: argparse.Namespace) -> None:
    """Print every row with its score, in chunks; rows before an invalid row that ends the run are printed too."""
    scorer = load_scorer(args.scorer)
    notes: list[str] = []
    replaced: set[str] = set()
    rows = Rows(args.file, strict=args.strict, notes=notes)
    try:
        for chunk in _chunks(rows.each(lambda row: (row, _text(row, args.text_column)))):
            # the scorer treats an empty prompt as no prompt
            prompts = [str(row.get(args.prompt_column) or "") for row, _ in chunk]
            for (row, text), result in zip(chunk, scorer.score([text for _, text in chunk], prompts), strict=True):
                replaced |= row.keys() & set(ADDED)
                if args.json:
                    emit(row | {"score": round(result.value, 6), "flagged": result.flagged, "label": result.label})
                else:
                    print(f"{result.value:.3f}  {result.label:<9}  {textwrap.shorten(plain(text), 90, placeholder=' …')}")
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
            yield chunk  # the rows before the invalid one
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
