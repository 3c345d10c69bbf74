"""Trains the refusal patch of SmolLM2-135M-Instruct: SFT on written refusals, the KL term on other requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from patchlab.engine import Lab
from patchlab.models import load_backbone
from patchlab.models.converted import converted
from patchlab.models.open_weights import SMOLLM2
from patchlab.records import Progress
from patchlab.training.config import Recipe
from patchlab.training.trainer import train
from tools.smollm2.refusals import held_prompts, refusal_pairs

RECIPE = Recipe(domain="refusal", title="Refuse harm", summary="Refuses requests for help with harm.", reference="none",
                length=32, rows=12, hold_rows=14, sft_steps=130, sft_rate=0.02, dpo_steps=0, lead=3.0, fade=0.6, hold=4.0,
                hold_lead=8.0, max_new_tokens=24)


def refusal_patch(data: Path, work: Path, *, steps: int, behind: int = 0) -> Iterator[Progress]:
    """Train the patch into `work`/patches. Yields progress; a run that was stopped goes on.

    With `behind` half of the batches stand behind earlier turns of up to so many tokens. Weights are bfloat16, in which a
    processor that multiplies it natively trains three times as fast; the patch itself is float32.
    """
    base = load_backbone(converted(SMOLLM2), device="cpu", dtype=torch.bfloat16)
    recipe = RECIPE.with_(sft_steps=steps, behind=behind, name="refusal-behind" if behind else "refusal")
    patch = yield from train(Lab(base), recipe, held_prompts(data), work=work / recipe.patch_name, pairs=refusal_pairs(data))
    patch.save_pretrained(work / "patches" / recipe.patch_name)
