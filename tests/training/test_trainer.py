"""Laws of training: repeatable, resumable at any step, and nothing in the base moves."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from drained import drain

from patchlab.engine import Trio
from patchlab.errors import NotFoundError, TrainingError
from patchlab.records import Prompt
from patchlab.registry import Registry
from patchlab.training import losses
from patchlab.training.config import Recipe
from patchlab.training.prefix import initial_prefix


def weights(trio: Trio) -> str:
    found = hashlib.sha256()
    for tensor in trio.base.model.state_dict().values():
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def test_same_seed_same_patch_and_the_base_stays(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    before = weights(trio)
    one = drain(trio, recipe, prompts, tmp_path / "one")
    two = drain(trio, recipe, prompts, tmp_path / "two")
    assert one is not None and two is not None
    assert np.array_equal(one.prefix, two.prefix)
    assert not np.allclose(one.prefix, initial_prefix(trio.base, recipe).numpy())
    assert weights(trio) == before
    assert all(parameter.grad is None for parameter in trio.base.model.parameters())


def test_a_hold_of_no_weight_costs_nothing(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    loss = losses.Hold.loss
    monkeypatch.setattr(losses.Hold, "loss", lambda self, step, *a, **k: (asked.append(step), loss(self, step, *a, **k))[1])
    drain(trio, recipe.with_(hold=0.0), prompts, tmp_path / "none")
    assert asked == []
    drain(trio, recipe.with_(hold=0.0, hold_in_dpo=1.0), prompts, tmp_path / "later")
    assert asked == list(range(recipe.dpo_steps))


@pytest.mark.parametrize("stop_after", [1, 3, 6, 9, 12])
def test_cut_off_anywhere_and_resumed_is_as_if_never(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                     stop_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SAVE_EVERY", 1)
    whole = drain(trio, recipe, prompts, tmp_path / "whole")
    assert drain(trio, recipe, prompts, tmp_path / "cut", stop_after=stop_after) is None
    resumed = drain(trio, recipe, prompts, tmp_path / "cut")
    assert whole is not None and resumed is not None
    np.testing.assert_allclose(resumed.prefix, whole.prefix, atol=1e-6)


@pytest.mark.parametrize("anchor", ["sft", "base", "reference"])
def test_every_anchor_trains(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path, anchor: str) -> None:
    patch = drain(trio, recipe.with_(anchor=anchor), prompts, tmp_path / "work")
    assert patch is not None and np.isfinite(patch.prefix).all()


def test_companions_change_what_is_learned(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    apart = drain(trio, recipe, prompts, tmp_path / "apart")
    along = drain(trio, recipe.with_(companions=("mate",)), prompts, tmp_path / "along")
    assert apart is not None and along is not None and not np.allclose(apart.prefix, along.prefix)


def test_a_patch_is_trained_on_at_the_strength_it_has(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                      tmp_path: Path) -> None:
    mate, made = trio.patch("mate"), {}
    recipe = recipe.with_(length=len(mate.prefix), continue_from="mate")
    for strength in (1.0, 2.0):
        folder = tmp_path / f"{strength}"
        manifest = dataclasses.replace(mate.manifest, strength=strength)
        dataclasses.replace(mate, manifest=manifest).save_pretrained(folder / "mate-1.0.0")
        room = Trio(trio.base, trio.reference, registry=Registry([folder]), preset=trio.preset)
        made[strength] = drain(room, recipe, prompts, folder / "work")
        assert made[strength].manifest.strength == strength
    assert not np.allclose(made[1.0].prefix, made[2.0].prefix)


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                             tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = losses.functional.cross_entropy

    def poisoned(*args: torch.Tensor, **kwargs: str) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*args, **kwargs) * (float("nan") if calls == 4 else 1.0)

    monkeypatch.setattr(losses, "SAVE_EVERY", 1)
    monkeypatch.setattr(losses.functional, "cross_entropy", poisoned)
    with pytest.raises(TrainingError, match="sft step 3"):
        drain(trio, recipe, prompts, tmp_path / "work")
    monkeypatch.setattr(losses.functional, "cross_entropy", real)
    assert drain(trio, recipe, prompts, tmp_path / "work") is not None


def test_a_work_folder_belongs_to_one_recipe(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drain(trio, recipe, prompts, tmp_path / "work", stop_after=1)
    with pytest.raises(TrainingError, match="begun with recipe"):
        drain(trio, recipe.with_(seed=9), prompts, tmp_path / "work")


def test_no_surviving_pair_says_the_tally(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"6 margin too small|no pair to learn from"):
        drain(trio, recipe.with_(margin=1.0), prompts, tmp_path / "work")


def test_prompts_of_one_kind_only(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no prompts to hold"):
        drain(trio, recipe, prompts[:6], tmp_path / "work")
    with pytest.raises(TrainingError, match="no prompts to improve"):
        drain(trio, recipe, prompts[6:], tmp_path / "other")


def test_an_unknown_companion(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'mate'"):
        drain(trio, recipe.with_(companions=("mat",)), prompts, tmp_path / "work")


@pytest.mark.parametrize("init", ["semantic", "vocabulary", "random"])
def test_every_start_has_the_right_shape(trio: Trio, recipe: Recipe, init: str) -> None:
    for length in (1, 4, 60):
        prefix = initial_prefix(trio.base, recipe.with_(init=init, length=length))
        assert prefix.shape == (length, trio.base.width) and torch.isfinite(prefix).all()
