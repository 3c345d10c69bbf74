"""Rows of any file are what another reader of the format finds, or an error that names the line; never a crash."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from fuzzing import changed, encodable, inputs, texts, values
from hypothesis import given
from hypothesis import strategies as st

from patchlab.errors import InputError
from patchlab.rows import Rows
from patchlab.storage import read_jsonl, write_jsonl

objects = st.dictionaries(texts, values, max_size=4)
tables = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(encodable, min_size=width, max_size=width), max_size=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


def read(path: Path, data: bytes) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file of these bytes, and how many were skipped; strictly read it is an error exactly where some were."""
    path.write_bytes(data)
    if not data:
        return [], 0
    rows = Rows(path, notes=[])
    with contextlib.suppress(InputError):
        found = list(rows.each(lambda row: row))
        try:
            assert list(Rows(path, strict=True).each(lambda row: row)) == found and not rows.skipped
        except InputError:
            assert rows.skipped
        return found, rows.skipped
    return [], rows.skipped


@inputs(0.7)
@given(tables, st.sampled_from([",", "\t"]), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_a_table_is_read_as_it_was_written(folder: Path, table: list[list[str]], delimiter: str, end: str, mark: bool,
                                           packed: bool) -> None:
    header = [f"column {k}" for k in range(len(table[0]))] if table else ["column"]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([header, *table])
    data = out.getvalue().encode("utf-8-sig" if mark else "utf-8")
    name = ("t.csv" if delimiter == "," else "t.tsv") + (".gz" if packed else "")
    assert read(folder / name, gzip.compress(data, 1) if packed else data) == (
        [dict(zip(header, row, strict=True)) for row in table], 0)


@inputs(0.7)
@given(changed([b"prompt,chosen,rejected\r\nso,fine,fool\r\n\"a, \"\"b\"\"\r\nc\",d,e\r\nf,g,h\r\n", b"a\n1\n\n2\n",
                b"a,b\n,\n"]))
def test_a_damaged_table_is_read_as_the_standard_library_reads_it(folder: Path, data: bytes) -> None:
    found, skipped = read(folder / "d.csv", data)
    try:
        plain = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="\n"), strict=True) if row]
    except (csv.Error, UnicodeDecodeError):
        plain = []
    header = [name.strip() for name in plain[0]] if plain else []
    other = len(header) == 1 and {*plain[0][0]} & {";", "\t"}  # a header without commas is read as one of another delimiter
    if header and "" not in header and len({*header}) == len(header) and not other:
        whole = [dict(zip(header, row, strict=True)) for row in plain[1:] if len(row) == len(header)]
        assert (found, skipped) == (whole, len(plain) - 1 - len(whole)) or not whole
    assert all(list(row) == list(found[0]) and all(isinstance(value, str) for value in row.values()) for row in found)


@inputs(0.15)
@given(st.lists(objects, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_objects_are_read_as_they_were_written(folder: Path, rows: list[dict[str, Any]], indent: int | None, ascii: bool) -> None:
    write_jsonl(folder / "own.jsonl", rows)
    assert list(read_jsonl(folder / "own.jsonl")) == rows
    lines = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows).encode()
    assert read(folder / "o.jsonl", lines) == (rows, 0)
    whole = json.dumps(rows, indent=indent, ensure_ascii=ascii).encode("utf-8", "backslashreplace")
    assert read(folder / "o.json", whole) == (rows, 0)
    assert read(folder / "o.txt", json.dumps(rows[0], indent=1).encode() if rows else b"") == (rows[:1], 0)


def plain_object(text: str) -> dict[str, Any] | None:
    """The object that the standard library reads, None for another value, a syntax error or a key that is there twice."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    with contextlib.suppress(ValueError, AssertionError, RecursionError):
        value = json.loads(text, object_pairs_hook=unique)
        return value if isinstance(value, dict) else None
    return None


@inputs(0.5)
@given(changed([b'{"text": "a", "kind": "chat"}\n{"text": "b\\n\\"", "n": [1, {"x": 2}]}\r\n\n{"text": "\xc3\xa9"}',
                b'\xef\xbb\xbf{"a": 1}\n' * 3]))
def test_damaged_json_lines_lose_no_other_line(folder: Path, data: bytes) -> None:
    found, skipped = read(folder / "l.jsonl", data)
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    wanted = []
    for line in lines:
        with contextlib.suppress(UnicodeDecodeError):
            wanted += [row] if (row := plain_object(line.strip().decode())) is not None else []
    if not lines or (lines[0].strip() != b"{" and not lines[0].lstrip().startswith(b"[")):
        assert repr(found) == repr(wanted) and skipped in (0, len(lines) - len(wanted))


@inputs(0.5)
@given(changed([b'[{"text": "a, [b]"}, {"text": "}\\\\\\"", "n": [1, {"x": 2}]},\n {"text": "\xc3\xa9"}]',
                b'[\n{"a": 1}\n,\n{"b": []}\n]']))
def test_a_damaged_array_is_read_where_it_is_whole(folder: Path, data: bytes) -> None:
    found, skipped = read(folder / "a.json", data)
    with contextlib.suppress(ValueError, AssertionError, RecursionError):
        plain = json.loads(data.decode("utf-8-sig"))
        if isinstance(plain, list) and plain_object(json.dumps({"all": plain})) and b'"n": 1' not in data:
            wanted = [row for row in plain if isinstance(row, dict)]
            assert len(found) + skipped == len(plain) and all(row in wanted for row in found)
    assert all(isinstance(row, dict) for row in found)


@inputs(0.4)
@given(changed([gzip.compress(b'{"a": 1}\n' * 40, mtime=0), gzip.compress(b"a,b\n1,2\n", mtime=0)]))
def test_damaged_gzip_ends_where_the_damage_is(folder: Path, data: bytes) -> None:
    found, _ = read(folder / "z.jsonl.gz", data)
    assert all(isinstance(row, dict) for row in found)
