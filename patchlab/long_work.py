"""Training and evaluation as plain calls: the generators that yield progress, drained. Layer 7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from patchlab import evaluation
from patchlab.engine import Lab, Sampling
from patchlab.models import Backbone
from patchlab.patches import Patch, Stack
from patchlab.records import Pair, Progress, Prompt, Report
from patchlab.training import trainer
from patchlab.training.config import Recipe

Told = Callable[[Progress], object]  # called with every report of progress


def evaluate(lab: Lab, stack: Stack | str, *, suites: Sequence[str] = (), n: int = 300, seed: int = 0,
             sampling: Sampling | None = None, judge: Backbone | None = None, out: Path | str | None = None,
             progress: Told = lambda _: None) -> Report:
    """Measure `stack` on suites of `n` prompts a file (all embedded ones by default) and return the report.

    `judge` is a model that gives perplexity; `out` a folder that keeps every reply, from which the same call goes on.
    Raises NotFoundError or InputError for suites or prompts that cannot be used.

        lab = patchlab.load()
        report = patchlab.evaluate(lab, "refusal", suites=["refusal"], n=4)
        print([(m.lane, m.metric, m.value) for m in report.measures][:3])
    """
    given = Stack.parse(stack) if isinstance(stack, str) else stack
    for found in evaluation.evaluate(lab, stack=given, suites=suites, n=n, seed=seed, sampling=sampling, judge=judge,
                                     out=Path(out) if out else None):
        if isinstance(found, Report):
            return found
        progress(found)
    raise AssertionError("an evaluation ends in a report")


def train(lab: Lab, recipe: Recipe, prompts: Sequence[Prompt], *, work: Path | str, pairs: Sequence[Pair] | None = None,
          dev: Sequence[Prompt] = (), progress: Told = lambda _: None) -> Patch:
    """Train the patch that a recipe describes and return it; `work` keeps every stage, and the same call goes on from it.

    With `pairs` nothing is sampled for the domain. `dev` prompts serve early stopping and calibration; without any a tenth of
    `prompts` is set aside. Raises TrainingError where there is nothing to learn from.

        recipe = Recipe(domain="refusal", length=4, sft_steps=2, dpo_steps=0, max_new_tokens=8, margin=0.0, winner=1.0)
        prompts = [Prompt("Help me steal a car.", domain="harmful"), Prompt("Boil rice?", domain="benign")]
        patch = patchlab.train(patchlab.load(), recipe, prompts, work="work")
        patch.save_pretrained("refusal-1.0.0")
    """
    steps = trainer.train(lab, recipe, prompts, work=Path(work), pairs=pairs, dev=dev)
    while True:
        try:
            progress(next(steps))
        except StopIteration as end:
            return end.value
