"""The shell as its users meet it: a program of its own, its exit codes, and one line where something is wrong."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import patchlab
from patchlab.cli import build_parser, main

ROOT = Path(patchlab.__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "gradio", "plotly", "sklearn"}


def run(*words: str, code: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run the program, or `code` in a fresh interpreter, from the repository's root."""
    start = ["-c", code] if code else ["-m", "patchlab"]
    return subprocess.run([sys.executable, *start, *words], cwd=ROOT, text=True, timeout=60, check=False,
                          **({"capture_output": True} | options))  # type: ignore[call-overload]


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"], ["train", "--help"],
                                   ["patches", "list"], ["patches", "show", "nosuch"]], ids=" ".join)
def test_light_verbs_load_no_model_library(words: list[str]) -> None:
    done = run(*words, code=(
        "import json, sys\nfrom patchlab.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(); print(json.dumps(sorted(sys.modules)))"))
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "patchlab.cli.patches" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_program_says_its_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"patchlab {patchlab.__version__}")


@pytest.mark.parametrize("words", [[], ["nosuch"], ["compare"], ["compare", "hi", "--mode", "sideways"], ["patches"],
                                   ["compare", "hi", "--samples", "0"], ["compare", "hi", "--seed", "-1"],
                                   ["evaluate", "--n", "some"], ["score", "f.jsonl"], ["app", "--port", "70000"],
                                   ["compare", "hi", "--temp", "0"], ["patches", "sign", "calm"]], ids=" ".join)
def test_wrong_usage_is_2_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith("usage: patchlab")


@pytest.mark.parametrize(("words", "said"), [
    (["compare", "hi", "--stack", "Toxicity=0.5"], "did you mean 'toxicity:0.5'?"),
    (["compare", "hi", "--stack", "toxicity,toxicity"], "twice"),
    (["compare", "hi", "--stack", "toxicity@1.0.0,toxicity@1.1.0", "--mode", "blend"], "twice"),
    *((["compare", "hi", "--stack", f"toxicity:{strength}"], "a number from 0 (off)") for strength in ("-1", "nan", "4.5")),
    (["compare", "hi", "--stack", "toxcity"], "did you mean 'toxicity'?"),
    (["score", "nosuch.jsonl", "--scorer", "toxicity"], "nosuch.jsonl"),
    (["score", "pyproject.toml", "--scorer", "toxicity"], "line 1: is not JSON"),
    (["score", "pyproject.toml", "--scorer", "toxicty"], "did you mean 'toxicity'"),
    (["patches", "show", "nosuch"], "unknown patch 'nosuch'"),
    (["patches", "verify", "patchlab"], "no patch.json"),
    (["patches", "install", "nosuch/folder"], "nosuch/folder"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_is_1_with_one_line(words: list[str], said: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("patchlab: ") and said in line and "expected" in line


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.jsonl").mkdir()
    assert main(["score", str(tmp_path / "loop.jsonl" / ("x" * 300)), "--scorer", "toxicity"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "File name too long" in line or "no file" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(rows: Callable[..., Path]) -> None:
    path = rows({"text": "hello there"})
    with open("/dev/full", "w") as full:
        done = run("score", str(path), "--scorer", "toxicity", capture_output=False, stdout=full,
                   stderr=subprocess.PIPE)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "No space left on device" in line


def test_a_reader_that_leaves_is_met_with_silence(rows: Callable[..., Path]) -> None:
    path = rows(*({"text": f"hello number {at}"} for at in range(5000)))
    words = [sys.executable, "-m", "patchlab", "score", str(path), "--scorer", "toxicity", "--json"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        assert json.loads(process.stdout.readline())["text"] == "hello number 0"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


def test_an_error_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "no\x1b[2Jsuch\nfile.jsonl", "--scorer", "toxicity"]) == 1
    err = capsys.readouterr().err
    assert "\x1b" not in err and len(err.splitlines()) == 1


def test_the_page_starts_as_a_program_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: begun.append([program, *words]))
    assert main(["app", "--port", "8001", "--preset", "pocket"]) == 0
    [[program, *words]] = begun
    assert program == words[0] == sys.executable
    assert words[1:] == ["-m", "patchlab.ui", "--port", "8001", "--preset", "pocket"]
    understood = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert understood.returncode == 0, understood.stderr


def test_defaults_of_the_shell_are_those_of_the_library() -> None:
    from inspect import signature

    from patchlab.engine import Sampling
    from patchlab.evaluation import evaluate

    asked: argparse.Namespace = build_parser().parse_args(["compare", "hi"])
    assert Sampling(temperature=asked.temperature, max_new_tokens=asked.max_new_tokens, seed=asked.seed) == Sampling()
    asked = build_parser().parse_args(["evaluate"])
    defaults = {name: each.default for name, each in signature(evaluate).parameters.items()}
    assert (asked.n, asked.seed) == (defaults["n"], defaults["seed"])
