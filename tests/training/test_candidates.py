"""Candidates: drawn once, resumed after an interruption, stored with what ended them."""

from __future__ import annotations

from pathlib import Path

import pytest
from drained import drain

from patchlab.engine import Lab, Sampling, Scheduler
from patchlab.evaluation import reply_store
from patchlab.records import Prompt
from patchlab.storage import read_jsonl
from patchlab.training.candidates import read_candidates, sample, scored
from patchlab.training.config import Recipe


def test_interrupted_candidates_draw_what_is_missing(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe.with_(sft_steps=1, dpo_steps=0, samples=2)
    lab.scheduler, lab.reference_scheduler = (Scheduler(each, rows=4) for each in (lab.base, lab.reference) if each)
    drain(lab, recipe, prompts, tmp_path / "whole")
    assert len(list(read_jsonl(tmp_path / "whole" / "candidates.jsonl"))) == 6 * 2 * 2
    drain(lab, recipe, prompts, tmp_path / "cut", stop_at=("candidates", 9))
    part = next((tmp_path / "cut").glob(".candidates.jsonl.part/*.jsonl"))
    before = part.read_bytes()
    assert before.count(b"\n") == 9
    part.write_bytes(before + before[:40])  # killed while it wrote
    asked: list[Prompt] = []
    drawn = reply_store.finished
    monkeypatch.setattr(reply_store, "finished", lambda lanes, some, **k: (asked.extend(some), drawn(lanes, some, **k))[1])
    drain(lab, recipe, prompts, tmp_path / "cut")
    assert 0 < len(asked) < 6
    for name in ("candidates.jsonl", "held.jsonl", "pairs.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not part.parent.exists()


def test_candidates_are_read_as_they_were_written(lab: Lab, tmp_path: Path) -> None:
    prompts = [Prompt("so", "continue", "toxicity", "1"), Prompt("so", "continue", "toxicity", system="Be calm."),
               Prompt.of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "oh"},
                          {"role": "user", "content": "so"}], domain="benign")]
    for _ in sample(lab.lanes(names=["base", "reference"]), prompts, sampling=Sampling(max_new_tokens=3, seed=1), samples=2,
                    path=tmp_path / "c.jsonl"):
        pass
    found = read_candidates(tmp_path / "c.jsonl")
    assert [(c.lane, c.prompt) for c in found] == [(lane, p) for lane in ("base", "reference") for p in prompts for _ in range(2)]
    drawn = lab.replies(prompts, lanes=["base", "reference"], samples=2, sampling=Sampling(max_new_tokens=3, seed=1))
    assert [(c.text, c.stop) for c in found] == [(reply.text, reply.stop) for reply in drawn]
    assert found == scored(drawn) and {c.cut for c in found} == {True}
