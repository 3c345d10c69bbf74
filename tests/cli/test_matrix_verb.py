"""`patches matrix`, the warnings of `compare`, and superseded patches in `patches list`, with real parts on a made preset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchlab.cli import main
from patchlab.patches import Patch
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, load_interactions, save_interactions
from patchlab.registry import install
from patchlab.registry.interaction_files import FILE

ASKED = ("patches", "matrix", "--patches", "calm,firm", "--n", "2", "--suite", "refusal,overrefusal,drift")


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(words) == code
    out, err = capsys.readouterr()
    return out, err


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def two(calm: Path, home: Path, tmp_path: Path, pocket: Path) -> Path:
    """Calm and another patch of the same base, installed; returns the folder that holds both."""
    install(calm, home)
    first = Patch.from_pretrained(calm)
    prefix = np.random.default_rng(1).standard_normal(first.prefix.shape).astype(np.float32)
    manifest = replace(first.manifest, name="firm", domain="refusal", title="Firmer replies", supersedes=("gone",), files={})
    install(Patch(manifest, prefix).save_pretrained(tmp_path / "made" / manifest.folder_name), home)
    return home / "patches"


def test_the_matrix_is_measured_kept_and_gone_on_with(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, *ASKED, "--json")
    found = rows_of(out)
    assert [row["stack"] for row in found[::4]][:1] == [[]]
    assert {tuple(row["stack"]) for row in found} == {
        (), ("calm@1.0.0",), ("firm@1.0.0",), ("calm@1.0.0", "firm@1.0.0")}
    for row in found:
        assert list(row) == ["stack", "mode", "suite", "metric", "patch", "value", "low", "high", "n", "scorer", "digest",
                             "change", "fights"]
        assert row["low"] <= row["value"] <= row["high"] and row["fights"] is False
    [own] = [row for row in found if len(row["stack"]) == 2 and row["patch"]]
    assert (own["patch"], own["suite"], own["n"]) == ("firm@1.0.0", "refusal", 2)
    assert list(own["change"]) == ["against", "value", "low", "high", "n", "unit"] and own["change"]["against"] == ["firm@1.0.0"]

    saved = load_interactions(two / FILE)
    assert len(saved.rows) == 4 and saved.patches.keys() == {"calm@1.0.0", "firm@1.0.0"}
    before = (two / FILE).stat().st_mtime_ns
    assert said(capsys, *ASKED, "--json")[0] == out
    assert (two / FILE).stat().st_mtime_ns == before, "nothing new was measured"

    out, _ = said(capsys, *ASKED, "--mode", "sequential", "--out", str(two.parent / "other.json"))
    assert "calm@1.0.0 then firm@1.0.0" in out and "firm@1.0.0 then calm@1.0.0" in out
    assert "other.json" in out.splitlines()[-1] and len(load_interactions(two / FILE).rows) == 4


def test_ctrl_c_says_what_is_kept(two: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from patchlab.evaluation import interaction_matrix

    monkeypatch.setattr(interaction_matrix, "add_row", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    _, err = said(capsys, *ASKED, code=130)
    assert "every finished row" in err and "same command" in err


@pytest.mark.parametrize(("words", "expected"), [
    (("--patches", "clam"), "did you mean 'calm'"), (("--suite", "drft"), "did you mean 'drift'"),
    (("--suite", "fluency"), "suite of the matrix"), (("--preset", "pockt"), "did you mean 'pocket'")])
def test_what_cannot_be_measured_is_one_line(two: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str],
                                             expected: str) -> None:
    out, err = said(capsys, "patches", "matrix", *words, code=1)
    assert out == "" and expected in err.splitlines()[-1]


def fighting(folder: Path) -> Interactions:
    """A file that says that the two fight."""
    manifests = [Patch.from_pretrained(folder / f"{name}-1.0.0").manifest for name in ("calm", "firm")]
    cell = Cell("refusal", "refusal_rate", "firm@1.0.0", 0.5, 0.25, 0.75, 2, "refusal", "a" * 64, (0.0, 1.0),
                Change(("firm@1.0.0",), -20.0, -30.0, -10.0, 2, "points"))
    row = InteractionRow(manifests[0].base.fingerprint, ("calm@1.0.0", "firm@1.0.0"), "parallel", {}, (cell,))
    return Interactions((row,), {f"{each.name}@1.0.0": each.digest for each in manifests})


def test_compare_warns_on_stderr_of_what_is_known_to_fight(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("compare", "who are you", "--max-new-tokens", "2", "--json", "--stack")
    plain, err = said(capsys, *words, "calm,firm")
    assert "warning" not in err
    save_interactions(fighting(two), two / FILE)
    for stack in ("calm,firm", "firm,calm:0.5"):
        out, err = said(capsys, *words, stack)
        [line] = [line for line in err.splitlines() if "warning" in line]
        assert "fight side by side: 'firm' loses 20.0 points" in line
        assert len(rows_of(out)) == 1
    assert said(capsys, *words, "calm,firm")[0] == plain, "a warning changes no reply"
    for quiet in (("calm",), ("calm,firm:0",), ("calm,firm", "--mode", "blend")):
        assert "warning" not in said(capsys, *words, *quiet)[1]
    (two / FILE).write_text("{}")
    _, err = said(capsys, *words, "calm,firm")
    assert FILE in err and "cannot be used" in err


def test_a_superseded_patch_is_marked_and_told(two: Path, calm: Path, home: Path, tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    first = Patch.from_pretrained(calm)
    manifest = replace(first.manifest, name="calmer", version="2.0.0", title="Calmest replies", supersedes=("calm@1.0.0",),
                       conflicts=("firm",), files={})
    install(Patch(manifest, first.prefix).save_pretrained(tmp_path / "new" / manifest.folder_name), home)
    listed = {row["name"]: row for row in rows_of(said(capsys, "patches", "list", "--json")[0])}
    assert listed["calm"]["superseded_by"] == ["calmer@2.0.0"] and listed["calmer"]["superseded_by"] == []
    out = said(capsys, "patches", "list")[0].splitlines()
    assert next(line for line in out if line.startswith("calm ")).endswith("(superseded by calmer@2.0.0)")
    assert sum("superseded" in line for line in out) == 1
    _, err = said(capsys, "compare", "hi", "--max-new-tokens", "1", "--stack", "calm,calmer,firm")
    told = [line for line in err.splitlines() if "warning" in line]
    assert len(told) == 2 and "'calmer' takes the place of 'calm'" in told[0] and "'calmer' and 'firm' should not" in told[1]


def test_a_place_that_cannot_be_written_is_found_before_the_work(two: Path, tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for out, words in ((tmp_path, "is a folder; expected a file"), (tmp_path / "file" / "m.json", "file")):
        _, err = said(capsys, *ASKED, "--out", str(out), code=1)
        assert words in err and "matrix 0/" not in err
