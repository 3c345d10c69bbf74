"""`patches gate` and `patches curve` write a patch anew with what it now has; `--gates on` heeds a gate."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from patchlab.cli import main
from patchlab.patches import Patch
from patchlab.registry import install

ANGRY = ("you are late!", "you are loud!", "you are old!", "you are red!", "you are rain!", "you are she!")
CALM = ("how do i bake bread", "how do i mix flour", "how do i wait", "how do i like water", "how do i tell a story",
        "how do i bake")


@pytest.fixture
def given(rows: Callable[..., Path]) -> list[str]:
    """Prompts of both kinds, some of them for dev."""
    def put(at: slice, name: str) -> str:
        return str(rows(*({"text": text, "domain": "toxicity"} for text in ANGRY[at]),
                        *({"text": text, "domain": "benign"} for text in CALM[at]), name=name))
    return ["--prompts", put(slice(0, 4), "train.jsonl"), "--dev", put(slice(4, 6), "dev.jsonl")]


def written(capsys: pytest.CaptureFixture[str], *words: str) -> Path:
    """The folder a verb says it wrote."""
    capsys.readouterr()
    assert main(["patches", *words]) == 0, capsys.readouterr().err
    return Path(capsys.readouterr().out.strip())


def test_a_gate_is_fitted_and_heeded(pocket: Path, home: Path, calm: Path, given: list[str], tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    folder = written(capsys, "gate", "calm", *given, "--version", "1.1.0", "--out", str(tmp_path / "out"))
    assert folder == tmp_path / "out" / "calm-1.1.0"
    made = Patch.from_pretrained(folder)
    assert made.gate and (made.prefix == Patch.from_pretrained(calm).prefix).all() and Patch.from_pretrained(calm).gate is None
    install(folder, home)
    assert main(["patches", "show", "calm"]) == 0 and "gate.safetensors" in capsys.readouterr().out

    words = ["compare", *ANGRY[4:], *CALM[4:], "--max-new-tokens", "6", "--stack", "calm", "--json"]
    assert main([*words, "--gates", "on"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["skipped_by_gate"] for row in found] == [[], [], ["calm"], ["calm"]]
    assert main(words) == 0
    without = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for on, off in zip(found, without, strict=True):
        base, patched, _ = on["lanes"]
        assert (patched["text"] == base["text"]) if on["skipped_by_gate"] else (on["lanes"] == off["lanes"])
        assert "skipped_by_gate" not in off
    assert main([word for word in words if word != "--json"] + ["--gates", "on"]) == 0
    assert capsys.readouterr().out.count("left off by its gate: calm") == 2


def test_evaluate_heeds_it_and_says_with_what(pocket: Path, home: Path, calm: Path, given: list[str], tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    install(written(capsys, "gate", "calm", *given, "--version", "1.1.0", "--out", str(tmp_path / "out")), home)
    moved, settings = [], []
    for gates in ("off", "on"):
        out = tmp_path / gates
        assert main(["evaluate", "--stack", "calm", "--gates", gates, "--suite", "drift", "--n", "3", "--json",
                     "--out", str(out)]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        moved.append(next(row["value"] for row in rows if row["metric"] == "kl_to_base"))
        settings.append(json.loads((out / "settings.json").read_text()))
    assert moved[1] < moved[0]  # the gate switches the patch off for requests like those of the suite
    assert "gates" not in settings[0] and settings[1]["gates"].startswith("calm ")


def test_gates_on_where_none_is_says_so(pocket: Path, home: Path, calm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    assert main(["compare", "you are", "--max-new-tokens", "2", "--stack", "calm", "--gates", "on"]) == 0
    assert "no patch of the stack has a gate" in capsys.readouterr().err


def test_a_curve_is_measured_and_a_gate_is_kept(pocket: Path, home: Path, calm: Path, given: list[str], tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    gated = written(capsys, "gate", "calm", *given, "--version", "1.1.0", "--out", str(tmp_path / "out"))
    install(gated, home)
    folder = written(capsys, "curve", "calm", "--n", "1", "--out", str(tmp_path / "out"))
    made = Patch.from_pretrained(folder)
    assert made.curve and made.gate == Patch.from_pretrained(home / "patches" / "calm-1.1.0").gate
    assert dataclasses.replace(made.manifest, files={}) == dataclasses.replace(
        Patch.from_pretrained(home / "patches" / "calm-1.1.0").manifest, files={})


def test_what_is_wrong_is_told_in_a_line(pocket: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patches", "gate", "calm", "--missed", "1"]) == 1
    assert "a share from 0 to below 1" in capsys.readouterr().err
    assert main(["patches", "curve", "no-such-patch"]) == 1
    assert "unknown patch" in capsys.readouterr().err
