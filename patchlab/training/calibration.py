"""What a patch does to held-back prompts while it is made: early stop, and the strength that keeps a budget of refusals.

Both sample short replies instead of reading a loss: a loss on given replies goes on falling while a patch begins to refuse
what it never says in them. Noise belongs to the prompt, so that two looks differ by the patch and not by luck. At a look
every 50 steps this costs a few percent of the time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from patchlab.engine import Lane, Sampling, replies
from patchlab.engine.decode import Part
from patchlab.errors import TrainingError
from patchlab.evaluation.metrics import refusal_rate, stereotype_rate, toxic_rate
from patchlab.evaluation.probabilities import divergences
from patchlab.models import Backbone
from patchlab.patches.manifest import MAX_STRENGTH
from patchlab.records import Progress, Prompt, Reply
from patchlab.storage import write_json
from patchlab.training.candidates import ROWS
from patchlab.training.config import HARMLESS, Recipe
from patchlab.training.prefix import PrefixTrainer

MOST = 64  # prompts a side in one look
CALIBRATED = 256  # harmless prompts a strength is tried on
GRID = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.4, 1.5, 1.75, 2.0)  # tried, of the strength that a patch trained at


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen on dev prompts, both from 0 (best) to 1; `stop` when a stage has nothing left to gain."""

    unsafe: float
    refused: float
    stop: bool = False


def set_aside(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to train on, and about a tenth of them for dev; which, depends on their text only."""
    parts: tuple[list[Prompt], list[Prompt]] = [], []
    for prompt in prompts:
        digest = hashlib.sha256(prompt.text.encode("utf-8", "surrogatepass")).digest()
        parts[digest[0] < 26].append(prompt)
    return parts


class Dev:
    """Dev prompts of a domain and harmless ones, with how replies to them are drawn.

    Raises TrainingError where there are none of the domain, or none that are harmless and these count.
    """

    def __init__(self, backbone: Backbone, recipe: Recipe, prompts: Sequence[Prompt]) -> None:
        self.backbone, self.domain = backbone, recipe.domain
        self.sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
        self.improve = [p for p in prompts if p.domain in recipe.improved]
        self.harmless = [p for p in prompts if p.domain in HARMLESS]
        counts = recipe.domain == "refusal" or recipe.calibrates
        self.own: list[Reply] = []  # the base's replies to harmless prompts, once drawn
        for found, name, needed in ((self.improve, " or ".join(recipe.improved), True),
                                    (self.harmless, " or ".join(HARMLESS), counts)):
            if needed and not found:
                raise TrainingError(f"no dev prompts of domain {name} among {len(prompts)}", expected="at least one",
                                    do="give dev prompts of that domain, or more prompts to set some aside")

    def unsafe(self, parts: tuple[Part, ...]) -> float:
        """The share of replies to the domain's prompts that are unsafe; for bias, how far pronouns are from even."""
        said = self._said(self.improve[:MOST], parts)
        if self.domain == "bias":
            known = [value for value in stereotype_rate(said) if not math.isnan(value)]
            return 2 * abs(_mean(known) - 0.5) if known else 1.0
        return _mean(toxic_rate(said)) if self.domain == "toxicity" else 1 - _mean(refusal_rate(said))

    def refused(self, parts: tuple[Part, ...], *, most: int = MOST) -> float:
        """The share of harmless prompts, `most` at most, that are refused; 0 without any."""
        return _mean(refusal_rate(self._said(self.harmless[:most], parts))) if self.harmless else 0.0

    def drift(self, parts: tuple[Part, ...]) -> float:
        """KL(base || base with the parts) in nats a token, on the base's own replies to harmless prompts."""
        self.own = self.own or [reply for reply in self._said(self.harmless[:CALIBRATED], ()) if reply.text]
        return _mean(divergences(self.backbone, self.own, parts)) if self.own else 0.0

    def _said(self, prompts: Sequence[Prompt], parts: tuple[Part, ...]) -> list[Reply]:
        lane = Lane("patched", self.backbone, parts)
        return [reply for chunk in replies([lane], prompts, sampling=self.sampling, rows=ROWS) for reply in chunk]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class Watch:
    """Early stop: looks every `check_every` steps and at the end, keeps the best prefix, and ends a stage with it.

    What it remembers lies in the trainer's state file, so that a resumed run decides as one that was never stopped.
    """

    def __init__(self, dev: Dev, recipe: Recipe) -> None:
        self.dev, self.recipe = dev, recipe

    def look(self, trainer: PrefixTrainer, step: int, steps: int) -> Look | None:
        """The look that is due after `step` steps, if any; at a stage's end the trainer holds the best prefix."""
        if step % self.recipe.check_every and step < steps:
            return None
        seen = [0.0, 0.0]
        if trainer.processes.first:
            parts = (trainer.part(),)
            seen = [self.dev.unsafe(parts), self.dev.refused(parts)]
        unsafe, refused = trainer.processes.told(seen, device=trainer.prefix.device)
        beside = trainer.beside
        if not beside or unsafe + refused < float(beside["score"]):
            beside |= {"best": trainer.prefix.detach().clone(), "waited": torch.tensor(0),
                       "score": torch.tensor(unsafe + refused, dtype=torch.float64)}
        else:
            beside["waited"] = beside["waited"] + 1
        stop = int(beside["waited"]) >= self.recipe.patience
        if stop or step == steps:
            trainer.put(beside["best"])
        return Look(unsafe, refused, stop and step < steps)


def calibrate(dev: Dev, part: Part, *, recipe: Recipe, path: Path) -> Iterator[Progress]:
    """Try every strength of the grid on dev prompts and write what each does to `path`, with the strongest in both budgets.

    `part` is the patch at the strength it trained at, of which the grid's are shares and multiples.
    Raises TrainingError where even the weakest is over one; the trained prefix stays in its folder.
    """
    most_refused, most_drift = recipe.refusal_budget, recipe.drift_budget or math.inf
    rows: list[dict[str, float]] = []
    segment, trained = part
    grid = [min(round(each * trained, 4), MAX_STRENGTH) for each in GRID]
    for strength in grid:
        parts = ((segment, strength),)
        rows.append({"strength": strength, "unsafe": dev.unsafe(parts), "drift": dev.drift(parts),
                     "refused": dev.refused(parts, most=CALIBRATED)})
        said = "{strength:g}: refused {refused:.3f}, drift {drift:.4f}".format(**rows[-1])
        yield Progress("strength", len(rows), len(grid), said, rows[-1])
    keeping = [row["strength"] for row in rows if row["refused"] <= most_refused and row["drift"] <= most_drift]
    if not keeping:
        raise TrainingError(f"{rows[0]['refused']:.3f} of harmless dev prompts refused and a drift of {rows[0]['drift']:.4f} at "
                            f"strength {grid[0]:g}", expected=f"budgets of {most_refused:g} and {most_drift:g}",
                            do="raise the budget and go on in the same folder, or train with a higher hold")
    write_json(path, {"strength": max(keeping), "budgets": [recipe.refusal_budget, recipe.drift_budget],
                      "prompts": len(dev.harmless[:CALIBRATED]), "tried": rows})
