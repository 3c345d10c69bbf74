"""The reader: finds out what a source is written in, reads row after row, and keeps count of those that cannot be used."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TypeVar

from patchlab.errors import InputError, MissingExtraError
from patchlab.rows.json_values import json_lines, json_values, parsed
from patchlab.rows.lines import Found, Lines, Row
from patchlab.rows.tables import parquet_rows, table

T = TypeVar("T")

HUB, STDIN = "hub:", "-"
NAMED = 3  # skipped rows whose reasons are given
_TABLES = (".csv", ".tsv")
_JSON = (".json", ".jsonl", ".ndjson")


class Rows:
    """The rows of a file, of standard input ("-") or of `hub:OWNER/DATASET[#SPLIT]`, to be read once.

    What is skipped is appended to `notes` in one sentence, and logged where there are none. Raises InputError for a file that is
    absent or empty.
    """

    def __init__(self, source: str | Path, *, strict: bool = False, notes: list[str] | None = None) -> None:
        self.source, self.strict, self.notes = str(source), strict, notes
        self.name = "standard input" if self.source == STDIN else self.source
        self.used = self.skipped = 0
        self.first: InputError | None = None
        self.reasons: list[str] = []
        path = Path(self.source)
        if self.source == STDIN or self.source.startswith(HUB):
            return
        if path.is_dir() or not path.exists():
            raise InputError(f"no file {path}", expected="a file of rows", do="check the path")
        if path.is_file() and not path.stat().st_size:
            raise InputError(f"{path} is empty", expected="a file of rows", do="check the path")

    def each(self, read: Callable[[Row], T]) -> Generator[T, None, None]:
        """What `read` makes of each row; a row for which it raises InputError cannot be used.

        Raises InputError where no row can be used, or a file has no header that can be read; with `strict` for the first row that
        cannot be used. Raises MissingExtraError for a format that needs a library.
        """
        try:
            with closing(_hub(self.source) if self.source.startswith(HUB) else _found(self.source, self.name)) as found:
                for line, row in found:
                    try:
                        if isinstance(row, InputError):
                            raise row
                        made = read(row)
                    except InputError as error:
                        self._skip(line, error)
                        continue
                    self.used += 1
                    yield made
        finally:
            self._tell()
        if not self.used:
            why = self.first or InputError("", expected="one or more", do="give a file with rows")
            what = f"none of its {self.skipped} rows can be used: {why.found}" if why.found else f"{self.name} holds no row"
            raise InputError(what, expected=why.expected, do=why.do)

    def _skip(self, line: int, error: InputError) -> None:
        told = type(error)(f"{self.name} line {line}: {error.found}", expected=error.expected, do=error.do)
        if self.strict:
            raise told from None
        self.skipped += 1
        self.first = self.first or told
        if len(self.reasons) < NAMED:
            self.reasons.append(f"line {line}: {error.found[:200]}")

    def _tell(self) -> None:
        if not (self.skipped and self.used):  # where none is used, the error says so
            return
        more = f"; and {self.skipped - NAMED} more" if self.skipped > NAMED else ""
        note = f"{self.name}: {self.skipped} row{'s' * (self.skipped > 1)} skipped ({'; '.join(self.reasons)}{more})"
        self.tell(note)

    def tell(self, note: str) -> None:
        """Append to the notes, or log where there are none."""
        if self.notes is None:
            logging.getLogger("patchlab").warning(note)
        else:
            self.notes.append(note)


def _found(source: str, name: str) -> Found:
    """The rows of a file or of standard input, by the ending of its name, else by what it begins with."""
    suffix = Path(source.removesuffix(".gz")).suffix.lower()
    if suffix == ".parquet":
        yield from parquet_rows(source)
        return
    buffer = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode()) if source == STDIN else None
    with nullcontext(buffer) if buffer else open(source, "rb") as stream:
        lines = Lines(stream)
        first = next((line for line in iter(lines.read, b"") if line.strip()), b"")
        lines.back([first] if first else [])
        mark = first.lstrip()[:1]
        if suffix in _JSON or (suffix not in _TABLES and mark in (b"{", b"[")):
            apart = first.strip() == b"{" or (suffix == ".json" and isinstance(parsed(first), InputError))
            yield from json_values(lines, listed=mark == b"[") if mark == b"[" or apart else json_lines(lines)
        elif first:
            yield from table(lines, name, _delimiter(first, suffix))
        if lines.damage:
            yield lines.number + 1, lines.damage


def _delimiter(header: bytes, suffix: str) -> str:
    """What is between the columns: by the file's name, else by its header; a CSV file without commas may have semicolons."""
    if suffix == ".tsv" or (suffix != ".csv" and b"\t" in header):
        return "\t"
    return next((mark for mark in ",;\t" if mark.encode() in header.strip()), ",")


def _hub(source: str) -> Found:
    """The rows of a split of a data set, counted from 1."""
    dataset, _, split = source.removeprefix(HUB).partition("#")
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("datasets is not installed", expected="it to read data sets of the Hub",
                                do="pip install datasets, or download the file and give its path") from None
    try:
        splits = load_dataset(dataset)
    except Exception as error:  # the library raises whatever its many readers do
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(f"data set {dataset!r} cannot be loaded ({reason})", expected="a public data set of the Hub",
                         do="check the id and the network, or download the file and give its path") from error
    if not split and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        raise InputError(f"data set {dataset} with the splits {', '.join(splits)}", expected="the name of one",
                         do=f"ask for hub:{dataset}#{next(iter(splits))}")
    yield from enumerate(splits[split], 1)
