"""How long does a pocket patch take, from prompts to a released folder? `python -m benchmarks.speed.train [--quick]`

Trains the patch that takes longest, toxicity, by its shipped recipe on all training prompts, as `patchlab train` does: sampling,
pairs, every stage, calibrated strength, release. Once, in a folder that is thrown away; about ten minutes on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.ablations import attend, returned
from benchmarks.speed.timing import Figure, command, say
from patchlab.engine import Lab, load
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.models.presets import ASSETS
from patchlab.records import Prompt
from patchlab.training.config import Recipe, read_recipe
from patchlab.training.release import release
from patchlab.training.trainer import train

STAGES = ("sft_steps", "own_steps", "dpo_steps")
TOY: dict[str, Any] = {"rows": 2, "hold_rows": 2, "max_new_tokens": 8, "margin": 0.0, "winner": 1.0, "drift_budget": 0.0}


def minutes(lab: Lab, recipe: Recipe, prompts: Sequence[Prompt]) -> Figure:
    """What one patch takes."""
    say(f"training {recipe.domain}")
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        release(returned(train(lab, recipe, prompts, work=Path(folder) / "work")), Path(folder))
        taken = (time.monotonic() - began) / 60
    steps = recipe.sft_steps + recipe.own_steps + recipe.dpo_steps * recipe.rounds
    return Figure.of(f"{recipe.domain}: {steps:,} steps, from prompts to a released patch", [taken], unit="minutes", bar="<= 10")


def figures(quick: bool) -> list[Figure]:
    """The figure of this file."""
    lab = load("pocket", device="cpu")
    attend(lab, "eager")
    asked = read_prompts(FOLDER / "pocket" / "train.jsonl")
    recipe = read_recipe(ASSETS / "recipes" / "alone" / "toxicity.yaml")
    if quick:
        asked = [p for domain in dict.fromkeys(p.domain for p in asked) for p in [q for q in asked if q.domain == domain][:6]]
        recipe = recipe.with_(**TOY, **{name: min(1, getattr(recipe, name)) for name in STAGES})
    return [minutes(lab, recipe, asked)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bars are met."""
    return command(__doc__ or "", "train", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
