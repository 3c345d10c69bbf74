"""Ablations run, change what they say they change, and do not do again what lies in their work folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.ablations import GROUPS, QUICK, lab_with, main, recipe_for
from patchlab.engine import Lab, load
from patchlab.storage import read_jsonl, write_jsonl
from patchlab.training.config import Recipe


def test_rows_differ_and_a_second_run_reads_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    assert main(asked) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["rows"]
    assert [row["name"] for row in rows] == ["shipped dials", "seed 1", "seed 2"] and found["quick"]
    far = [row["figures"]["KL to base on benign"][0] for row in rows]
    assert len(set(far)) == len(far) and min(far) > 0  # three trainings made three patches

    monkeypatch.setattr("benchmarks.quality.ablations.train", lambda *_, **__: pytest.fail("trained again"))
    assert main(asked) == 0
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == rows


@pytest.mark.parametrize("group", GROUPS)
def test_every_row_is_a_recipe_of_its_own(group: str) -> None:
    domain, shared, changes = GROUPS[group]
    digests = {recipe_for(domain, {**shared, **change}, QUICK).digest for change in changes}
    assert len(digests) == len(changes) and changes[0] == {}


def test_a_recipe_that_holds_less_is_given_less_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though all start from the same sampled replies."""
    held = [{"text": domain, "domain": domain} for domain in ("benign", "bias")]
    write_jsonl(tmp_path / "sampled-toxicity" / "held.jsonl", held)
    given: list[list[str]] = []

    def trained(lab: Lab, recipe: Recipe, prompts: Any, work: Path) -> Iterator[None]:
        given.append([row["domain"] for row in read_jsonl(work / "held.jsonl")])
        yield

    monkeypatch.setattr("benchmarks.quality.ablations.train", trained)
    monkeypatch.setattr("benchmarks.quality.ablations.release", lambda patch, folder: folder)
    for change in ({}, {"holds": ("benign",)}):
        lab_with(load("pocket"), recipe_for("toxicity", change, QUICK), QUICK, tmp_path)
    assert given == [["benign", "bias"], ["benign"]]
