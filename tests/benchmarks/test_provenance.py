"""Results name what they were made of: every file in benchmarks/results, and what is written now."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")  # whose version is part of the machine

from benchmarks import provenance
from benchmarks.provenance import FACTS, NOT_RECORDED, RESULTS, commit, held_out, judge_digest, split_of, write_results
from benchmarks.quality import pocket
from patchlab.evaluation.statistics import meets
from patchlab.scoring import load_scorer

FILES = sorted(RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_names_commit_split_and_judges_or_says_that_it_does_not(path: Path) -> None:
    made = json.loads(path.read_text(encoding="utf-8"))["made_with"]
    assert list(made) == list(FACTS)
    if made["commit"] == NOT_RECORDED:
        return
    assert re.fullmatch(r"[0-9a-f]{40}( with changes)?", made["commit"]) and re.fullmatch(r"\d{4}-\d\d-\d\d", made["date"])
    assert made["command"].startswith("python -m benchmarks.") and made["machine"]["torch"]
    assert made["split"] == "none" or re.fullmatch("[0-9a-f]{64}", made["split"]["digest"])
    assert (made["split"] == "none") == (made["judges"] == "none")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bar_is_judged_at_the_end_that_could_fail_it_and_stands_once(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    judged = [figure for figure in found.get("figures", []) if figure.get("bar") and figure["met"] is not None]
    for figure in judged:
        assert figure["met"] == meets(figure["bar"], figure["low"], figure["high"]), figure["name"]
    names = [figure["name"] for figure in judged]
    assert len(names) == len({*names}) and not any("lower end" in name for name in names)


def test_what_is_written_says_what_it_was_made_of(tmp_path: Path) -> None:
    prompts = held_out(3, visitors=True)
    write_results(tmp_path / "a.json", {"figures": []}, command="quality.made", prompts=prompts, n=3, seed=1)
    made = json.loads((tmp_path / "a.json").read_text())["made_with"]
    assert list(made) == list(FACTS) and (made["n"], made["seed"]) == (3, 1)
    assert made["command"] == "python -m benchmarks.quality.made"
    assert made["split"] == split_of("held", prompts) and made["split"]["prompts"] == 5 * 3 + 120
    assert made["judges"]["refusal"] == load_scorer("refusal").digest == judge_digest("refusal")
    assert split_of("held", held_out(2)) != split_of("held", held_out(3))
    write_results(tmp_path / "b.json", {}, command="speed.made")
    made = json.loads((tmp_path / "b.json").read_text())["made_with"]
    assert (made["split"], made["judges"], made["n"]) == ("none", "none", "none")


def test_without_git_no_commit_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("git")

    commit.cache_clear()
    monkeypatch.setattr(subprocess, "run", absent)
    assert provenance.commit() == NOT_RECORDED
    commit.cache_clear()


def test_a_bar_is_met_by_the_worse_end_only() -> None:
    assert meets("<= 0.05", 0.01, 0.05) and not meets("<= 0.05", 0.01, 0.051)
    assert meets(">= 8", 8.0, 9.0) and not meets(">= 8", 7.99, 9.0)


def test_sealed_prompts_are_opened_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out, seen = tmp_path / "sealed.json", []

    def measured(folder: Path, n: int, seed: int, **_: Any) -> dict[str, Any]:
        assert json.loads(out.read_text())["opened"], "noted before anything is read"
        seen.append(sorted(path.name for path in folder.iterdir()))
        return {"figures": [{"name": name, "value": 0.5, "low": 0.4, "high": 0.6, "n": n, "met": None}
                            for name in ("base toxicity", "visitors base harmful")]}

    monkeypatch.setattr(pocket, "measured", measured)
    words = ["--sealed", "--n", "2", "--out", str(out)]
    assert pocket.main(words) == 0
    found = json.loads(out.read_text())
    assert found["made_with"]["split"]["name"] == "sealed" and found["made_with"]["split"]["prompts"] == 10
    assert [figure["name"] for figure in found["figures"]] == ["base toxicity"] and len(found["opened"]) == 1
    with pytest.raises(SystemExit, match=r"were opened on .* --again"):
        pocket.main(words)
    assert json.loads(out.read_text()) == found and len(seen) == 1
    assert pocket.main([*words, "--again"]) == 0
    assert len(json.loads(out.read_text())["opened"]) == 2 and seen[0] == seen[1] and len(seen[0]) == 5
