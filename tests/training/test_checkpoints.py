"""Trainings that are interrupted: resumed at any step, on a full disk, or after a loss that is not finite."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from drained import drain

from patchlab.engine import Lab
from patchlab.errors import TrainingError
from patchlab.records import Prompt
from patchlab.storage import read_jsonl
from patchlab.training import loop, losses
from patchlab.training.config import Recipe


@pytest.mark.parametrize("stop_at", [("candidates", 4), ("pairs", 1), ("sft", 2), ("sft", 6), ("dpo", 2)])
def test_cut_off_anywhere_and_resumed_is_as_if_never(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                     stop_at: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    whole = drain(lab, recipe, prompts, tmp_path / "whole")
    assert drain(lab, recipe, prompts, tmp_path / "cut", stop_at=stop_at) is None
    resumed = drain(lab, recipe, prompts, tmp_path / "cut")
    assert whole is not None and resumed is not None
    np.testing.assert_allclose(resumed.prefix, whole.prefix, atol=1e-6)


def test_rounds_of_dpo_resume_where_they_stopped(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    once = drain(lab, recipe, prompts, tmp_path / "once")
    twice = recipe.with_(rounds=2)
    whole = drain(lab, twice, prompts, tmp_path / "whole")
    rows = list(read_jsonl(tmp_path / "whole" / "log.jsonl"))
    assert [row["stage"] for row in rows] == ["sft"] * recipe.sft_steps + ["dpo"] * recipe.dpo_steps + ["dpo2"] * recipe.dpo_steps
    margins = [row["margin"] for row in rows if row["stage"] != "sft"]  # they count from where the round before ended
    assert abs(margins[recipe.dpo_steps]) < 0.3 < margins[recipe.dpo_steps - 1]
    assert once is not None and whole is not None and not np.array_equal(once.prefix, whole.prefix)

    for k, stop_at in enumerate((("dpo", recipe.dpo_steps), ("dpo2", 1))):
        drain(lab, twice, prompts, tmp_path / str(k), stop_at=stop_at)
        resumed = drain(lab, twice, prompts, tmp_path / str(k))
        assert resumed is not None and resumed.prefix.tobytes() == whole.prefix.tobytes()


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                             tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = losses.functional.cross_entropy

    def poisoned(*args: torch.Tensor, **kwargs: str) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*args, **kwargs) * (float("nan") if calls == 4 else 1.0)

    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    monkeypatch.setattr(losses.functional, "cross_entropy", poisoned)
    with pytest.raises(TrainingError, match="sft step 3"):
        drain(lab, recipe, prompts, tmp_path / "work")
    monkeypatch.setattr(losses.functional, "cross_entropy", real)
    assert drain(lab, recipe, prompts, tmp_path / "work") is not None


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond `room` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_state_before(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    whole = drain(lab, recipe, prompts, tmp_path / "whole")
    work = tmp_path / "cut"
    drain(lab, recipe, prompts, work, stop_at=("sft", 3))
    state = (work / "sft.safetensors").read_bytes()
    with full_disk(len(state) - 1), pytest.raises(TrainingError, match="free space and go on in the same folder"):
        drain(lab, recipe, prompts, work)
    assert (work / "sft.safetensors").read_bytes() == state
    assert not list(work.glob(".sft*"))
    resumed = drain(lab, recipe, prompts, work)
    assert whole is not None and resumed is not None and whole.prefix.tobytes() == resumed.prefix.tobytes()


def test_the_log_has_every_step_once(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drain(lab, recipe, prompts, tmp_path, stop_at=("sft", 4))  # nothing is saved yet, so these steps are done again
    log = tmp_path / "log.jsonl"
    with log.open("a") as lines:
        lines.write('{"stage": "sf')  # killed while writing
    drain(lab, recipe, prompts, tmp_path)
    rows = list(read_jsonl(log))
    assert [(row["stage"], row["step"]) for row in rows] == [
        *(("sft", k + 1) for k in range(recipe.sft_steps)), *(("dpo", k + 1) for k in range(recipe.dpo_steps))]
    assert list(rows[-1]) == ["stage", "step", "loss", "margin", "hold", "rate", "seconds"]
    drain(lab, recipe, prompts, tmp_path)
    assert list(read_jsonl(log)) == rows
