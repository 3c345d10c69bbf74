"""A step in micro-batches is the step: the same gradient however its rows are cut, and whether activations are kept or not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from drained import drain
from safetensors.torch import load_file

from patchlab.engine import Lab
from patchlab.records import Prompt
from patchlab.training import loop
from patchlab.training.config import Recipe


def moments(lab: Lab, recipe: Recipe, prompts: list[Prompt], work: Path) -> dict[str, torch.Tensor]:
    """Adam's first moments after one step of each stage: the gradients, scaled."""
    assert drain(lab, recipe.with_(sft_steps=1, dpo_steps=1), prompts, work) is not None
    return {stage: load_file(work / f"{stage}.safetensors")["exp_avg"] for stage in ("sft", "dpo")}


@pytest.fixture
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bits would hide a wrong weight behind rounding."""
    monkeypatch.setattr(loop, "precision", lambda backbone: contextlib.nullcontext())


@pytest.mark.parametrize("dials", [{"accumulate": 8}, {"accumulate": 3}, {"checkpointing": True},
                                   {"accumulate": 2, "checkpointing": True}], ids=str)
def test_micro_batches_add_up_to_the_step(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                   full_precision: None, dials: dict) -> None:
    recipe = recipe.with_(rows=8, hold_rows=6, lead=3.0, hold_lead=4.0)
    whole = moments(lab, recipe, prompts, tmp_path / "whole")
    pieces = moments(lab, recipe.with_(**dials), prompts, tmp_path / "pieces")
    for stage, expected in whole.items():
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(pieces[stage], expected, atol=1e-6, rtol=1e-3)
