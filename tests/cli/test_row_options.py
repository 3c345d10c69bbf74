"""Files of rows at the command line: one bad row is skipped and told, `--strict` ends at it, what came before it is kept."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from patchlab.cli import main

SHORT = ("--max-new-tokens", "6")
TOY = "domain: toxicity\nsft_steps: 3\ndpo_steps: 0\nlength: 4\nrows: 4\nhold_rows: 4\nmax_new_tokens: 4\n"
LONG = json.dumps({"text": "bread " * 4000})


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """300 rows, one that is broken, and one more."""
    path = tmp_path / "broken.jsonl"
    path.write_text("".join(json.dumps({"text": f"you fool {k}"}) + "\n" for k in range(300)) + '{broken\n{"text": "last"}\n')
    return path


def test_score_keeps_the_rows_around_a_broken_one(broken: Path, capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["score", str(broken), "--scorer", "toxicity", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["text"] for line in out.splitlines()][-2:] == ["you fool 299", "last"]
    assert f"{broken}: 1 row skipped (line 301: is not JSON" in err
    assert main([*words, "--strict"]) == 1
    strict, err = capsys.readouterr()
    assert strict.splitlines() == out.splitlines()[:300] and "line 301: is not JSON" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(broken.read_bytes())))
    assert main(["score", "-", *words[2:]]) == 0
    piped, err = capsys.readouterr()
    assert piped == out and "standard input: 1 row skipped" in err


@pytest.mark.parametrize("verb", [["score", "FILE", "--scorer", "toxicity"], ["compare", "--prompts", "FILE"],
                                  ["evaluate", "--suite", "refusal=FILE"], ["train", "toxicity", "--prompts", "FILE"],
                                  ["train", "toxicity", "--pairs", "FILE"]])
def test_an_empty_file_is_said(verb: list[str], pocket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.csv").touch()
    assert main([word.replace("FILE", str(tmp_path / "empty.csv")) for word in verb]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "empty.csv is empty" in line


def test_nothing_on_standard_input_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert main(["score", "-", "--scorer", "toxicity"]) == 1
    assert "standard input holds no row" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["compare", "--prompts", "FILE"], ["evaluate", "--suite", "refusal=FILE"]])
def test_a_prompt_too_long_is_skipped_and_the_rest_is_asked(verb: list[str], pocket: Path, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.jsonl").write_text(f'{LONG}\n{{"text": "how do i bake bread"}}\n')
    words = [word.replace("FILE", str(tmp_path / "two.jsonl")) for word in verb]
    assert main([*words, *SHORT, "--json"]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert {row.get("n", 1) for row in found} == {1} and "two.jsonl: 1 row skipped (line 1: a prompt of 24,000 characters)" in err
    assert main([*words, *SHORT, "--strict"]) == 1
    assert "two.jsonl line 1: a prompt of 24,000 characters" in capsys.readouterr().err


def test_training_counts_what_it_skips(pocket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected\nHow, quickly?,no,sure\nyou are,kind and calm,a house\n")
    (tmp_path / "prompts.jsonl").write_text(f'{LONG}\n{{"text": "why is the sky", "domain": "benign"}}\n')
    words = ["train", "toxicity", "--recipe", str(tmp_path / "toy.yaml"), "--pairs", str(tmp_path / "pairs.csv"), "--judge", "0",
             "--prompts", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*words, "--strict"]) == 1
    assert "pairs.csv line 2: 4 fields under a header of 3" in capsys.readouterr().err
    assert main(words) == 0
    err = capsys.readouterr().err
    assert "1 kept, 1 that cannot be used" in err and "pairs.csv: 1 row skipped (line 2: 4 fields" in err
    assert "prompts.jsonl: 1 row skipped (line 1: a prompt of 24,000 characters)" in err


@pytest.mark.parametrize(("typed", "said"), [(str(2**63), f"{2**63} is not between 0 and {2**63 - 1}"),
                                             ("1.5", "'1.5' is not a whole"), ("-1", "-1 is not between 0")])
def test_a_seed_out_of_range_is_refused_as_it_was_typed(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["compare", "hello", f"--seed={typed}"])
    assert left.value.code == 2 and said in capsys.readouterr().err
