"""Generators of training run to their end, or cut off on the way."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from patchlab.engine import Lab
from patchlab.patches import Patch
from patchlab.records import Progress, Prompt
from patchlab.training.config import Recipe
from patchlab.training.trainer import train


def drain(lab: Lab, recipe: Recipe, prompts: list[Prompt], work: Path, *, stop_at: tuple[str, int] | None = None,
          **options: Any) -> Patch | None:
    """The trained patch, or None where the run is cut off when so much of a stage is done."""
    steps = train(lab, recipe, prompts, work=work, **options)
    while True:
        try:
            progress = next(steps)
        except StopIteration as done:
            return done.value
        if (progress.stage, progress.done) == stop_at:
            steps.close()
            return None


def returned(steps: Generator[Progress, None, Any]) -> Any:
    """What long work returns at its end."""
    while True:
        try:
            assert isinstance(next(steps), Progress)
        except StopIteration as end:
            return end.value
