"""Rows of every format with the line they begin on; what cannot be used is skipped, counted and named, or ends the reading."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from patchlab.errors import InputError, MissingExtraError
from patchlab.rows import Rows
from patchlab.storage import MAX_ROW

ROWS = [{"prompt": 'a, "b"\nc', "label": "é"}, {"prompt": "d", "label": ""}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = 'prompt,label\n"a, ""b""\nc",é\nd,\n'


def read(path: Path, **how: Any) -> list[dict[str, Any]]:
    return list(Rows(path, **how).each(lambda row: row))


@pytest.mark.parametrize(("name", "text"), [
    ("a.jsonl", LINES), ("a.ndjson", LINES), ("a.txt", LINES), ("a", LINES), ("a.json", LINES), ("a.json", json.dumps(ROWS)),
    ("a.jsonl", json.dumps(ROWS, indent=2)), ("a.txt", json.dumps(ROWS)), ("a.csv", TABLE), ("a.txt", TABLE),
    ("a.jsonl", "".join(json.dumps(row, indent=1) + "\n" for row in ROWS)),
    ("a.json", "{\"prompt\":\n" + LINES[len('{"prompt":'):]), ("a.tsv", TABLE.replace(",", "\t").replace("a\t", "a,"))])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_way_of_writing_them_gives_the_same_rows(name: str, text: str, mark: str, packed: bool, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    data = (mark + text).encode()
    data = gzip.compress(data, mtime=0) if packed else data
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(data)
    assert read(path) == ROWS
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert name.endswith(".json") or read(Path("-")) == ROWS


def test_line_ends_of_either_kind_count_and_quoted_ones_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'a,b\r\n"x\r\ny",1\r\n2\r\n')
    notes: list[str] = []
    assert read(tmp_path / "a.csv", notes=notes) == [{"a": "x\r\ny", "b": "1"}] and "(line 4: 1 fields under" in notes[0]


def test_parquet_is_read_and_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged Parquet data"):
        read(tmp_path / "b.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pip install pyarrow"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(("name", "data", "line", "said"), [
    ("a.jsonl", b'{"a": 1}\n\n{"a": 2\n{"a": 3}\n', 3, "is not JSON"),
    ("a.jsonl", b'{"a": 1}\n[2]\n{"a": 3}\n', 2, "is not an object"),
    ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n{"a": 3}\n', 2, "is not UTF-8"),
    ("a.jsonl", b'{"a": 1}\n{"a": 2, "a": 4}\n{"a": 3}\n', 2, "has the key 'a' twice"),
    ("a.jsonl", b'{"a": 1}\n{"a": 1e999}\n{"a": 3}\n', 2, "has the number 1e999, which is too large"),
    ("a.json", b'[{"a": 1},\n 2,\n {"a": 3}]', 2, "is not an object"),
    ("a.json", b'[{"a": 1}, {"a":\n 2,},\n {"a": 3}]', 1, "is not JSON"),
    ("a.json", b'[{"a": 1},\n{"a": 3}', 2, "an array that is not closed"),
    ("a.csv", b"a\n1\n2,x\n3\n", 3, "2 fields under a header of 1"),
    ("a.csv", b"a\n1\n\"2\n3\n", 3, "a quote that is never closed"),
    ("a.csv", b'a\n1\n"2"x\n3\n', 3, "is not CSV"), ("a.csv", b"a\n1\n\xff\n3\n", 3, "is not UTF-8"),
    ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": 3}\n', mtime=0)[:-4], 3, "damaged data")])
def test_one_bad_row_is_skipped_and_named_or_ends_the_reading(name: str, data: bytes, line: int, said: str, tmp_path: Path,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).write_bytes(data)
    notes: list[str] = []
    found = read(tmp_path / name, notes=notes)
    assert [int(row["a"]) for row in found] == [1, 3]
    assert len(notes) == 1 and f"{name}: 1 row skipped (line {line}: {said}" in notes[0]
    with caplog.at_level(logging.WARNING, "patchlab"):
        assert read(tmp_path / name) == found and caplog.messages == notes
    kept: list[dict[str, Any]] = []
    with pytest.raises(InputError, match=f"{name} line {line}: {re.escape(said)}"):
        for row in Rows(tmp_path / name, strict=True).each(dict):
            kept.append(row)  # one by one: what came before the error is used
    assert kept and kept == found[:len(kept)]


def test_only_the_first_reasons_are_given_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("x\n" * 9 + "{}\n")
    notes: list[str] = []
    assert read(tmp_path / "a.jsonl", notes=notes) == [{}]
    assert "9 rows skipped" in notes[0] and "line 3:" in notes[0] and "line 4:" not in notes[0] and "and 6 more" in notes[0]


@pytest.mark.parametrize(("name", "data", "said"), [
    ("a.csv", b"", "is empty"), ("a.jsonl", b"\n \n", "holds no row"), ("a.csv", b"a,b\n", "holds no row"),
    ("a.json", b"[]", "no row"),
    ("a.csv", b"a,a\n1,2\n", "line 1: a header with 'a, a'"), ("a.csv", b"a,\n1,2\n", "a header with 'a, '"),
    ("a.csv", b"\xff,b\n1,2\n", "a header with 'is not UTF-8'"),
    ("a.jsonl", b"x\ny\n", "none of its 2 rows can be used: .* line 1: "),
    ("a.jsonl", '{"a": 1}'.encode("utf-16"), "text in UTF-16"), ("a.jsonl", gzip.compress(b"", mtime=0), "holds no row"),
    ("b/a.jsonl", None, "no file"), (".", None, "no file")])
def test_a_source_without_any_row_says_why(name: str, data: bytes | None, said: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said):
        read(tmp_path / name, notes=(notes := []))
    assert not notes


@pytest.mark.parametrize(("name", "before", "fill", "after"), [
    ("a.jsonl", b'{"a": 1}\n{"a": "', b"x", b'"}\n{"a": 3}\n'), ("a.json", b'[{"a": 1},\n{"a": "', b"\\\\", b'"},{"a": 3}]'),
    ("a.csv", b'a\n1\n"', b"x\n", b'"\n3\n'), ("a.csv", b"a\n1\n", b"x", b"\n3\n")])
def test_a_row_beyond_the_cap_is_passed_over_in_little_memory(name: str, before: bytes, fill: bytes, after: bytes,
                                                              tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(before + fill * (2 * MAX_ROW // len(fill)) + after)
    notes: list[str] = []
    assert [int(row["a"]) for row in read(tmp_path / name, notes=notes)] == [1, 3] and f"more than {MAX_ROW} bytes" in notes[0]
    with pytest.raises(InputError, match=f"a row of more than {MAX_ROW} bytes"):
        read(tmp_path / name, strict=True)


@pytest.mark.parametrize("data", [",a,b\n0,1,2\n", "a;b\n1;2\n", "a\tb\n1\t2\n", 'a;b\n"1";"2"\n'])
def test_an_index_and_other_delimiters_of_csv_are_read(data: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(data)
    assert read(tmp_path / "a.csv", strict=True) == [{"a": "1", "b": "2"}]


def test_a_long_field_is_read_and_the_librarys_own_limit_stays(tmp_path: Path) -> None:
    before, text = csv.field_size_limit(), "x" * 200_000
    (tmp_path / "a.csv").write_text(f"a,b\n{text},1\n")
    assert read(tmp_path / "a.csv") == [{"a": text, "b": "1"}] and csv.field_size_limit() == before


def test_reading_may_stop_early_and_closes_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\nx\n{}\n" * 2)
    rows = Rows(tmp_path / "a.jsonl", notes=(notes := list[str]()))
    each = rows.each(lambda row: row)
    assert [next(each), next(each)] == [{}, {}]
    each.close()
    assert (rows.used, rows.skipped) == (2, 1) and len(notes) == 1


def test_a_split_of_the_hub_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.DatasetDict({name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: made)
    assert read(Path("hub:some/set#test")) == [{"text": "test"}]
    for source in ("hub:some/set", "hub:some/set#dev"):
        with pytest.raises(InputError, match="the splits train, test"):
            list(Rows(source).each(dict))
    del made["test"]
    assert list(Rows("hub:some/set").each(dict)) == [{"text": "train"}]
