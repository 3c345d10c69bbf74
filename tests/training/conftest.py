"""A tiny lab, and a recipe and prompts that train on it in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_models import make_backbone, make_patch

from patchlab.engine import Lab
from patchlab.records import Prompt
from patchlab.registry import Registry
from patchlab.training.config import Recipe


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A tiny Llama as base, another seed of it as reference, and one installed patch named `mate`."""
    base = make_backbone("llama")
    mate = make_patch(base, "mate", length=3)
    mate.save_pretrained(tmp_path / "patches" / "mate-1.0.0")
    return Lab(base, make_backbone("llama", seed=1), registry=Registry([tmp_path / "patches"]))


@pytest.fixture
def recipe() -> Recipe:
    """A recipe of a few seconds; thresholds so wide that every pair is kept."""
    return Recipe(domain="toxicity", length=4, rows=4, hold_rows=4, sft_steps=6, dpo_steps=4, samples=1, margin=0.0,
                  winner=1.0, max_new_tokens=5)


@pytest.fixture
def prompts() -> list[Prompt]:
    """Six prompts to improve and six to hold."""
    words = ("the bus is late", "who did this", "people like that", "my neighbor", "this again", "some fool")
    return [Prompt(text, "continue", "toxicity") for text in words] + [
        Prompt(f"how do i {text}", "chat", "benign") for text in words]
