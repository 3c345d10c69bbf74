"""Prompts from a paste, a suite or a hostile upload: read in bounds, or refused in one line without a path of the server."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from patchlab.errors import ContextError, InputError, NotFoundError
from patchlab.evaluation.suites import own_prompt
from patchlab.records import Prompt
from patchlab.ui.batch import batch_prompts
from patchlab.ui.batch.batch_prompts import MAX_BYTES, MAX_PROMPTS, as_row, fitting, of_suite, pasted, uploaded


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_paste_is_a_prompt_a_line() -> None:
    assert pasted(" one \n\n two\r\nthree", "continue") == [Prompt(each, "continue") for each in ("one", "two", "three")]


@pytest.mark.parametrize(("name", "data"), [
    ("a.txt", "one\n\ntwo\n"), ("a.TXT", "\ufeffone\ntwo"), ("a.csv", "text,more\none,1\ntwo,2\n"),
    ("a.csv", "prompt\none\ntwo\n"), ("a.tsv", "text\tmore\none\t1\ntwo\t2\n"),
    ("a.jsonl", '{"text": "one"}\n{"prompt": "two"}\n'),
    ("a.json", '[{"text": "one"}, {"text": "two"}]')])
def test_each_format_gives_the_same_prompts(tmp_path: Path, name: str, data: str) -> None:
    notes: list[str] = []
    assert uploaded(put(tmp_path, name, data), "continue", notes) == [Prompt("one", "continue"), Prompt("two", "continue")]
    assert notes == []


def test_conversations_keep_their_turns_and_rows_their_kind(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    path = put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, ({"messages": messages}, {"text": "x", "kind": "chat"}))))
    talk, plain = uploaded(path, "continue", [])
    assert len(talk.earlier) == 2 and plain.kind == "chat"
    assert [own_prompt(as_row(each)) for each in (talk, plain)] == [talk, plain]


def test_rows_that_cannot_be_used_are_told_without_a_path(tmp_path: Path) -> None:
    notes: list[str] = []
    path = put(tmp_path, "a.jsonl", '{"text": "one"}\n[1]\n{"text": 5}\n' + "{" * 100_000 + "\n")
    assert uploaded(path, "chat", notes) == [Prompt("one")]
    assert len(notes) == 1 and "a.jsonl: 3 rows skipped" in notes[0] and str(tmp_path) not in notes[0]


@pytest.mark.parametrize(("name", "data", "words"), [
    ("a.exe", "one", "a.exe; expected one that ends in"), ("a.parquet", b"PAR1", "a.parquet"), ("a.jsonl.gz", b"", "a.jsonl.gz"),
    ("a.txt", b"", "0 bytes"), ("a.txt", b"\xff\xfe\x00a", "not UTF-8"), ("a.csv", b"\xff\xfea\x00", "UTF-16"),
    ("a.csv", "one,two\n1,2\n", "none of its 1 rows"), ("a.txt", " \n \n", "no prompt"),
    ("a.jsonl", gzip.compress(b"\n" * 50_000_000, mtime=0), "compressed"),
    ("a.csv", gzip.compress(b"text\none\n", mtime=0), "compressed"),
    ("a.txt", "x\n" * (MAX_PROMPTS + 1), "more than 1,000 prompts"),
    ("a.jsonl", '{"text": "x"}\n' * (MAX_PROMPTS + 1), "more than 1,000 prompts"),
    ("a.txt", b"x" * (MAX_BYTES + 1), "4,194,305 bytes"),
    ("a.json", "[" * 50_000, "a.json"), ("\u202egnp.exe", "x", "\ufffdgnp.exe")])
def test_a_hostile_file_is_one_line(tmp_path: Path, name: str, data: bytes | str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        uploaded(put(tmp_path, name, data), "chat", [])
    assert words in str(caught.value) and "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_suite_is_a_packaged_one_only() -> None:
    assert {prompt.domain for prompt in of_suite("overrefusal", 3)} == {"benign", "lookalike"}
    for name in ("refusal=/etc/passwd", "xstest", ""):
        with pytest.raises(NotFoundError, match="unknown suite"):
            of_suite(name, 3)


def test_what_does_not_fit_is_left_out_and_told() -> None:
    def check(prompt: Prompt) -> None:
        if len(prompt.text) > 3:
            raise ContextError("too long", expected="less", do="shorten it")

    notes: list[str] = []
    assert fitting(pasted("a\nb\na\nlong one", "chat"), check, notes) == [Prompt("a"), Prompt("b")]
    assert [each[-1] for each in notes] == ["1", "1"]
    with pytest.raises(ContextError):
        fitting([Prompt("long one")], check, [])
    assert set(batch_prompts.PLAIN) & set(batch_prompts.TABLES) == set()
