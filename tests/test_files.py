"""A file is the old one or the new one, never half of either; a wrong line is named."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchlab.errors import BusyError, InputError
from patchlab.storage import MAX_ROW, locked, read_jsonl, sha256, write_atomic, write_json, write_jsonl, write_text


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_text(path, "old")

    def interrupted(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, interrupted)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_text(path, "old")
    seen = []

    def slow(temporary: Path) -> None:
        temporary.write_text("half")
        seen.append(path.read_text())
        temporary.write_text("whole")

    write_atomic(path, slow)
    assert seen == ["old"]
    assert path.read_text() == "whole"


def test_rows_that_fail_midway_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])

    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 2}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_jsonl(path, rows())
    assert list(read_jsonl(path)) == [{"a": 1}]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_respects_the_umask_and_leaves_it_as_it_was(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "file", lambda temporary: temporary.chmod(0o600))
        after = os.umask(umask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert after == umask


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_text_is_utf8_with_plain_newlines(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "é\n→")
    assert (tmp_path / "text").read_bytes() == "é\n→".encode()


def test_json_is_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    value = {"name": "Zoë", "numbers": [1, 2.5, None]}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "Zoë" in text
    assert text.endswith("}\n")


def test_rows_come_back_as_written_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    rows = [{"text": "two\nlines and a \u2028 separator"}, {"text": "naïve"}]
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    path.write_text("\n" + path.read_text(encoding="utf-8") + "  \n", encoding="utf-8")
    assert list(read_jsonl(path)) == rows


@pytest.mark.parametrize(("bad", "reason"), [("{'a': 1}", "is not JSON"), ("[1]", "is not an object")])
def test_the_wrong_line_is_named_after_the_right_ones_came(tmp_path: Path, bad: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n\n{bad}\n{{"a": 2}}\n')
    rows = read_jsonl(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(InputError, match=rf"rows\.jsonl line 3 {reason}"):
        next(rows)


def test_bytes_that_are_not_utf8_are_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_a_path_that_is_no_file_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no file"):
        list(read_jsonl(tmp_path / name))


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"patch")
    assert sha256(tmp_path / "bytes") == hashlib.sha256(b"patch").hexdigest()


@pytest.mark.parametrize("data", [
    b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n', b'{"a": 1}\r\n{"a": 2}\r\n',
    b'\xef\xbb\xbf\r\n{"a": 1}\r\n\r\n{"a": 2}', b'{"a": 1}\n{"a": 2}'])
def test_a_byte_order_mark_and_either_line_end_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(data)
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == [{"a": 1}, {"a": 2}]


def test_a_byte_order_mark_is_one_at_the_start_only(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n\xef\xbb\xbf{"a": 2}\n')
    with pytest.raises(InputError, match="line 2 is not JSON"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_a_row_beyond_the_cap_is_named_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "fine"}\n{"text": "')
        file.truncate(2**40)  # sparse: reading the line whole would exhaust the memory
    rows = read_jsonl(path)
    assert next(rows) == {"text": "fine"}
    with pytest.raises(InputError, match="line 2 has more than 4194304 bytes"):
        next(rows)
    text = "x" * (MAX_ROW - 20)
    write_jsonl(path, [{"text": text}])
    assert list(read_jsonl(path)) == [{"text": text}]


def test_a_file_that_another_holds_is_busy_and_then_free(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    with locked(path), pytest.raises(BusyError, match=r"state\.json is being changed"), locked(path, seconds=0.05):
        pytest.fail("two held the lock")
    with locked(path, seconds=0.05):
        pass
    assert not path.exists()


@pytest.mark.parametrize("line", ["[" * 100_000, '{"n": ' + "9" * 5000 + "}"])
def test_a_line_beyond_reason_is_named_and_not_a_crash(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(InputError, match="line 2"):
        list(read_jsonl(path))
