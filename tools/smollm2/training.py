"""Trains the refusal patch of SmolLM2-135M-Instruct: SFT on written refusals, the KL term on other requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from patchlab.engine import Lab
from patchlab.models import load_backbone
from patchlab.records import Progress
from patchlab.training.config import Recipe
from patchlab.training.trainer import train
from tools.smollm2.reference import ReferenceTrainer, merged
from tools.smollm2.reference_data import examples, gathered
from tools.smollm2.refusals import held_prompts, refusal_pairs
from tools.smollm2.weights import dequantized

RECIPE = Recipe(domain="refusal", title="Refuse harm", summary="Refuses requests for help with harm.", reference="none",
                length=50, rows=12, hold_rows=14, sft_steps=320, sft_rate=0.02, dpo_steps=0, lead=3.0, fade=0.6, hold=4.0,
                hold_lead=8.0, max_new_tokens=24)


def refusal_patch(data: Path, work: Path, *, steps: int, behind: int = 0) -> Iterator[Progress]:
    """Train the patch into `work`/patches; the base lies in `work`/base. Yields progress; a run that was stopped goes on.

    With `behind` half of the batches stand behind earlier turns of up to so many tokens. Weights are bfloat16, in which a
    processor that multiplies it natively trains three times as fast; the patch itself is float32.
    """
    base = load_backbone(dequantized(work / "base"), device="cpu", dtype=torch.bfloat16)
    recipe = RECIPE.with_(sft_steps=steps, behind=behind, name="refusal-behind" if behind else "refusal")
    patch = yield from train(Lab(base), recipe, held_prompts(data), work=work / recipe.patch_name, pairs=refusal_pairs(data))
    patch.save_pretrained(work / "patches" / recipe.patch_name)


def reference(data: Path, work: Path) -> Iterator[Progress]:
    """Train the safer release into `work`/reference and merge it into `work`/merged. Yields progress; resumes."""
    folder, drawn = dequantized(work / "base"), work / "reference-work"
    base = load_backbone(folder, device="cpu", dtype=torch.bfloat16)
    drawn.mkdir(parents=True, exist_ok=True)
    yield from gathered(Lab(base), data, drawn)
    trainer = ReferenceTrainer(base, folder, examples(data, drawn), drawn)
    yield from trainer.sft()
    yield from trainer.dpo()
    trainer.save(work / "reference")
    merged(folder, work / "reference", work / "merged")
