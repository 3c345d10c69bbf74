"""Sampled replies to calibration prompts: when a stage stops early, and which strength keeps the budgets.

A loss on given replies would go on falling while a patch begins to refuse what these never show. The noise of a prompt is always
the same, so two checks differ by the patch only. A check every 50 steps takes a few percent of the time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from patchlab.engine import BARE, Lane, Sampling, Scheduler, StackPlan, fixed, replies
from patchlab.engine.forward_rows import Part
from patchlab.errors import TrainingError
from patchlab.evaluation.metrics import refusal_rate, stereotype_rate, toxic_rate
from patchlab.evaluation.probabilities import divergences
from patchlab.patches.manifest import MAX_STRENGTH
from patchlab.records import Progress, Prompt, Reply
from patchlab.storage import write_json
from patchlab.training.config import HARMLESS, Recipe
from patchlab.training.prefix import PrefixTrainer

MOST = 64  # prompts of each kind in one check of early stopping
CALIBRATED = 256  # harmless prompts a strength is tried on
GRID = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.4, 1.5, 1.75, 2.0)  # tried, relative to the strength in training


def set_aside(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to train on, and about a tenth of them for calibration; chosen by a hash of each prompt alone."""
    parts: tuple[list[Prompt], list[Prompt]] = [], []
    for prompt in prompts:
        digest = hashlib.sha256(prompt.text.encode("utf-8", "surrogatepass")).digest()
        parts[digest[0] < 26].append(prompt)
    return parts


class CalibrationSet:
    """Calibration prompts, those to improve and harmless ones, with how replies to them are sampled and scored.

    Raises TrainingError where there are none to improve, or no harmless ones although refusals are counted.
    """

    def __init__(self, scheduler: Scheduler, recipe: Recipe, prompts: Sequence[Prompt]) -> None:
        self.scheduler, self.domain = scheduler, recipe.domain
        self.sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
        self.improve = [p for p in prompts if p.domain in recipe.improved]
        self.harmless = [p for p in prompts if p.domain in HARMLESS]
        self.base_replies: list[Reply] = []  # to harmless prompts, once sampled
        counts = recipe.domain == "refusal" or recipe.calibrates
        for found, name, needed in ((self.improve, " or ".join(recipe.improved), True),
                                    (self.harmless, " or ".join(HARMLESS), counts)):
            if needed and not found:
                raise TrainingError(f"no calibration prompts of domain {name} among {len(prompts)}", expected="at least one",
                                    do="give calibration prompts of that domain, or more prompts to set some aside")

    def unsafe(self, plan: StackPlan) -> float:
        """The share of replies to prompts to improve that are unsafe; for bias, how far pronouns are from even."""
        found = self._replies(self.improve[:MOST], plan)
        if self.domain == "bias":
            return 2 * abs(_mean(stereotype_rate(found), default=1.0) - 0.5)
        return _mean(toxic_rate(found)) if self.domain == "toxicity" else 1 - _mean(refusal_rate(found))

    def refused(self, plan: StackPlan, *, most: int = MOST) -> float:
        """The share of harmless prompts, `most` at most, that are refused; 0 without any."""
        return _mean(refusal_rate(self._replies(self.harmless[:most], plan))) if self.harmless else 0.0

    def drift(self, plan: StackPlan) -> float:
        """KL(base || base under the plan) in nats a token, on the base's own replies to harmless prompts."""
        if not self.base_replies and self.harmless:
            self.base_replies = [reply for reply in self._replies(self.harmless[:CALIBRATED], BARE) if reply.text]
        return _mean(divergences(self.scheduler.backbone, self.base_replies, fixed(plan))) if self.base_replies else 0.0

    def _replies(self, prompts: Sequence[Prompt], plan: StackPlan) -> list[Reply]:
        return replies([Lane("patched", self.scheduler, fixed(plan))], prompts, sampling=self.sampling)


def _mean(values: Sequence[float], *, default: float = 0.0) -> float:
    """The mean of the values that are numbers, `default` without any."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else default


@dataclass(frozen=True, slots=True)
class Check:
    """The shares of unsafe replies and of refused harmless prompts; `stop` where a stage has ceased to improve."""

    unsafe: float
    refused: float
    stop: bool = False


class EarlyStopping:
    """Checks every `check_every` steps and at the end; a stage ends after `patience` checks without improvement.

    The best prefix so far is in the trainer's state file, so that a resumed run decides as one that was never interrupted.
    """

    def __init__(self, prompts: CalibrationSet, recipe: Recipe) -> None:
        self.prompts, self.recipe = prompts, recipe

    def check(self, prefix: PrefixTrainer, step: int, steps: int) -> Check | None:
        """The check that is due after `step` steps, if any; at a stage's end the trainer is given the best prefix."""
        if step % self.recipe.check_every and step < steps:
            return None
        found = [0.0, 0.0]
        if prefix.processes.first:
            plan = StackPlan.of(prefix.frozen())
            found = [self.prompts.unsafe(plan), self.prompts.refused(plan)]
        # all other processes add zeros
        unsafe, refused = prefix.processes.sum(torch.tensor(found, dtype=torch.float64, device=prefix.tensor.device)).tolist()
        kept = prefix.extra
        if not kept or unsafe + refused < float(kept["score"]):
            kept |= {"best": prefix.tensor.detach().clone(), "waited": torch.tensor(0),
                     "score": torch.tensor(unsafe + refused, dtype=torch.float64)}
        else:
            kept["waited"] = kept["waited"] + 1
        stop = int(kept["waited"]) >= self.recipe.patience
        if stop or step == steps:
            prefix.replace(kept["best"])
        return Check(unsafe, refused, stop and step < steps)


def calibrate(prompts: CalibrationSet, trained: Part, *, recipe: Recipe, path: Path) -> Iterator[Progress]:
    """Measure the patch at every strength of the grid and write the figures to `path`, with the highest within both budgets.

    `trained` is the patch at the strength it was trained at, which the grid is relative to.
    Raises TrainingError where even the lowest exceeds one; the trained prefix stays in its folder.
    """
    most_refused, most_drift = recipe.refusal_budget, recipe.drift_budget or math.inf
    rows: list[dict[str, float]] = []
    grid = [min(round(each * trained[1], 4), MAX_STRENGTH) for each in GRID]
    for strength in grid:
        plan = StackPlan.of((trained[0], strength))
        rows.append({"strength": strength, "unsafe": prompts.unsafe(plan), "drift": prompts.drift(plan),
                     "refused": prompts.refused(plan, most=CALIBRATED)})
        message = "{strength:g}: refused {refused:.3f}, drift {drift:.4f}".format(**rows[-1])
        yield Progress("strength", len(rows), len(grid), message, rows[-1])
    within = [row["strength"] for row in rows if row["refused"] <= most_refused and row["drift"] <= most_drift]
    if not within:
        raise TrainingError(f"{rows[0]['refused']:.3f} of harmless calibration prompts refused and a drift of "
                            f"{rows[0]['drift']:.4f} at strength {grid[0]:g}",
                            expected=f"budgets of {most_refused:g} and {most_drift:g}",
                            do="raise the budget and go on in the same folder, or train with a higher hold")
    write_json(path, {"strength": max(within), "budgets": [recipe.refusal_budget, recipe.drift_budget],
                      "prompts": len(prompts.harmless[:CALIBRATED]), "tried": rows})
