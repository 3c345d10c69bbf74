"""Calibration prompts: when a stage stops, which prefix it keeps, and which strength is chosen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from drained import drain

from patchlab.engine import Lab, Segment, StackPlan
from patchlab.errors import TrainingError
from patchlab.records import Prompt
from patchlab.storage import read_jsonl
from patchlab.training import loop
from patchlab.training.calibration import GRID, CalibrationSet, EarlyStopping, calibrate, set_aside
from patchlab.training.config import Recipe
from patchlab.training.prefix import PrefixTrainer

Figures = list[tuple[float, float]]  # unsafe and refused, one pair a check


class KnownFigures(CalibrationSet):
    """Figures that are known, in place of those of replies."""

    def __init__(self, figures: Figures) -> None:
        self.figures, self.harmless = figures, []

    def unsafe(self, plan: StackPlan) -> float:
        return self.figures[0][0]

    def refused(self, plan: StackPlan, *, most: int = 0) -> float:
        return self.figures.pop(0)[1] if len(self.figures) > 1 else min(1.0, strength_of(plan) / 2)

    def drift(self, plan: StackPlan) -> float:
        return strength_of(plan) / 100


def strength_of(plan: StackPlan) -> float:
    [(_, strength)] = plan.rows[0].parts
    return strength


def checked(lab: Lab, recipe: Recipe, figures: Figures) -> tuple[int, float]:
    """The step a stage of 100 ends at, and which step's prefix it keeps."""
    prefix = PrefixTrainer(lab.base, torch.zeros(2, lab.base.width))
    early_stopping = EarlyStopping(KnownFigures([*figures, (0.0, 0.0)]), recipe)
    for step in range(1, 101):
        prefix.replace(torch.full_like(prefix.tensor, step))
        check = early_stopping.check(prefix, step, 100)
        assert (check is not None) == (step % 20 == 0)
        if check and check.stop:
            break
    return step, prefix.tensor.detach()[0, 0].item()


def test_a_stage_stops_after_patience_and_keeps_the_best(lab: Lab) -> None:
    recipe = Recipe(domain="toxicity", patience=2, check_every=20)
    assert checked(lab, recipe, [(0.5, 0.0), (0.2, 0.1), (0.1, 0.3), (0.1, 0.2), (0.0, 0.0)]) == (80, 40)
    assert checked(lab, recipe, [(0.5, 0.0), (0.2, 0.1), (0.1, 0.3), (0.1, 0.0), (0.0, 0.2)]) == (100, 80)
    assert checked(lab, recipe, [(0.0, 0.0)] * 5) == (60, 20)


def test_early_stop_resumed_is_as_if_never_stopped(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    recipe = recipe.with_(patience=1, check_every=2, sft_steps=8)
    prompts = [*prompts, *(dataclasses.replace(p, text=f"{p.text} {k}") for p in prompts for k in range(4))]
    whole = drain(lab, recipe, prompts, tmp_path / "whole")
    rows = [row for row in read_jsonl(tmp_path / "whole" / "log.jsonl") if row["stage"] == "sft"]
    assert len(rows) == 4 and "unsafe" in rows[1] and "unsafe" not in rows[2]  # nothing to gain: none is toxic
    for k, stop_at in enumerate((("sft", 1), ("sft", 3))):
        assert drain(lab, recipe, prompts, tmp_path / str(k), stop_at=stop_at) is None
        resumed = drain(lab, recipe, prompts, tmp_path / str(k))
        assert whole is not None and resumed is not None and whole.prefix.tobytes() == resumed.prefix.tobytes()


def test_the_strongest_strength_in_budget_is_chosen(tmp_path: Path) -> None:
    figures, segment = KnownFigures([(0.0, 0.0)]), Segment((torch.zeros(1, 2, 4),), (torch.zeros(1, 2, 4),))

    def chosen(trained: float = 1.0, **budgets: float) -> float:
        recipe = Recipe(domain="toxicity", **budgets)
        steps = list(calibrate(figures, (segment, trained), recipe=recipe, path=tmp_path / "strength.json"))
        assert len(steps) == len(GRID)
        return float(json.loads((tmp_path / "strength.json").read_text())["strength"])

    assert chosen(refusal_budget=0.4) == 0.8 and chosen(drift_budget=0.0131) == 1.3
    assert chosen(refusal_budget=0.4, drift_budget=0.0131) == 0.8 and chosen(refusal_budget=0.9, drift_budget=0.0131) == 1.3
    assert chosen(2.0, drift_budget=0.0231) == 2.3 and chosen(2.0) == 4.0 == chosen(4.0)  # no stronger than a stack may be
    for budgets in ({"refusal_budget": 0.1}, {"drift_budget": 0.001}):
        with pytest.raises(TrainingError, match=r"0\.125 of harmless calibration prompts refused and a drift of 0\.0025"):
            chosen(**budgets)


def test_a_budget_writes_the_strength_and_may_be_changed_afterwards(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                                    tmp_path: Path) -> None:
    dev = [dataclasses.replace(p, text=f"{p.text} now") for p in prompts]

    def strength(**budgets: float) -> float:
        from patchlab.training.trainer import train
        steps = train(lab, recipe.with_(**budgets), prompts, work=tmp_path, dev=dev)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return float(done.value.manifest.strength)

    assert strength(refusal_budget=0.5) == 2.0  # a toy refuses nothing
    state = (tmp_path / "sft.safetensors").stat().st_mtime_ns
    assert strength(refusal_budget=0.4) == 2.0
    tried = json.loads((tmp_path / "strength.json").read_text())["tried"]
    drifts = [row["drift"] for row in tried]
    assert drifts == sorted(drifts) and drifts[0] > 0  # the stronger, the further
    assert strength(drift_budget=drifts[3]) == tried[3]["strength"]
    assert (tmp_path / "sft.safetensors").stat().st_mtime_ns == state


def test_calibration_prompts_are_set_aside_by_text(prompts: list[Prompt]) -> None:
    many = [dataclasses.replace(p, text=f"{p.text} {k}") for p in prompts for k in range(50)]
    kept, aside = set_aside(many)
    assert 0.06 < len(aside) / len(many) < 0.14 and not set(kept) & set(aside)
    assert set_aside(many[::-1])[1] == aside[::-1]


def test_calibration_prompts_that_are_lacking(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    for some, domain in ((prompts[6:], "domain toxicity"), (prompts[:6], "domain benign or lookalike")):
        with pytest.raises(TrainingError, match=f"no calibration prompts of {domain}"):
            CalibrationSet(lab.scheduler, recipe.with_(refusal_budget=0.1), some)
