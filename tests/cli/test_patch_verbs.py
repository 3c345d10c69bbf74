"""`patchlab patches` on a made patch: installed, listed, shown, verified, and caught when a byte has changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from patchlab.cli import main, patches
from patchlab.patches import Patch
from patchlab.registry import Registry


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    """What the shell printed to stdout and stderr."""
    capsys.readouterr()
    assert main(words) == code
    out, err = capsys.readouterr()
    return out, err


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_patch_is_installed_listed_and_shown(calm: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "patches", "install", str(calm))
    target = home / "patches" / "calm-1.0.0"
    assert str(target) in out
    assert Patch.from_pretrained(target) == Patch.from_pretrained(calm)

    out, _ = said(capsys, "patches", "list", "--json")
    [listed] = [row for row in rows_of(out) if row["name"] == "calm"]
    assert (listed["version"], listed["domain"], listed["folder"]) == ("1.0.0", "toxicity", str(target))
    out, _ = said(capsys, "patches", "list")
    assert [line.split()[:3] for line in out.splitlines() if "calm" in line] == [["calm", "1.0.0", "toxicity"]]

    [shown] = rows_of(said(capsys, "patches", "show", "calm@1.0.0", "--json")[0])
    assert shown == Patch.from_pretrained(calm).manifest.to_json() | {"folder": str(target)}
    out, _ = said(capsys, "patches", "show", "calm")
    assert "Calmer replies" in out and "4 embeddings of width 32" in out and "no evidence" in out


def test_a_whole_patch_is_verified_by_folder_and_by_name(calm: Path, home: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "patches", "verify", str(calm))
    assert "is intact" in out and str(calm) in out
    said(capsys, "patches", "install", str(calm))
    [row] = rows_of(said(capsys, "patches", "verify", "calm", "--json")[0])
    assert row["folder"] == str(home / "patches" / "calm-1.0.0")


def test_a_flipped_byte_is_told_with_its_file(calm: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "patches", "install", str(calm))
    weights = home / "patches" / "calm-1.0.0" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for which in ("calm", str(weights.parent)):
        out, err = said(capsys, "patches", "verify", which, code=1)
        assert out == "" and "adapter_model.safetensors" in err and "was changed" in err
    said(capsys, "patches", "install", str(weights.parent), code=1)


def test_a_broken_folder_does_not_hide_the_others(calm: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "patches", "install", str(calm))
    shutil.copytree(calm, home / "patches" / "broken-1.0.0")
    (home / "patches" / "broken-1.0.0" / "patch.json").write_text("{}")
    out, err = said(capsys, "patches", "list")
    assert "calm" in out and "broken" not in out
    assert "broken-1.0.0 cannot be used" in err


def test_with_nothing_installed_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(patches, "default_registry", lambda: Registry([tmp_path]))
    out, err = said(capsys, "patches", "list")
    assert out == "" and "patches install FOLDER" in err
    assert said(capsys, "patches", "list", "--json")[0] == ""


def test_an_unknown_version_names_those_there_are(calm: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "patches", "install", str(calm))
    _, err = said(capsys, "patches", "show", "calm@2.0.0", code=1)
    assert "one of: 1.0.0" in err
