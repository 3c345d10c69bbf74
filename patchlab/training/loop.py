"""The training loop of one stage: micro-batches, one update a step, log, saved state, early stopping.

Micro-batches are computed here or in other processes; each divides by the counts of the whole step, so their sum is the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from patchlab.engine import Scheduler, StackPlan
from patchlab.records import Progress
from patchlab.training.calibration import EarlyStopping
from patchlab.training.checkpoints import StepLog, resume, save_state
from patchlab.training.companions import Companions, StepCompanions
from patchlab.training.config import Recipe
from patchlab.training.dataset import EarlierTurns, MicroBatch
from patchlab.training.kl_regularizer import KLRegularizer
from patchlab.training.prefix import PrefixTrainer, decay, precision

SAVE_EVERY = 50  # steps
SAVE_SECONDS = 30.0  # or this long, where steps are slow

# (step, micro-batch, plan, companions) -> the loss and the numbers to log, both this micro-batch's parts of the step's
Loss = Callable[[int, MicroBatch, StackPlan, StepCompanions], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """What all stages share: the prefix, the scheduler that samples on-policy replies, the KL term, the work folder."""

    prefix: PrefixTrainer
    scheduler: Scheduler
    recipe: Recipe
    regularizer: KLRegularizer
    companions: Companions
    log: StepLog
    folder: Path
    early_stopping: EarlyStopping | None = None
    history: EarlierTurns | None = None


def run_stage(context: TrainingContext, stage: str, steps: int, peak: float, loss: Loss) -> Iterator[Progress]:
    """The steps of a stage, from where its saved state is; a step is logged before it is saved, so that no row is missing."""
    prefix, state = context.prefix, context.folder / f"{stage}.safetensors"
    start, saved = resume(state, prefix), time.monotonic()
    for step in range(start, steps):
        began, rate = time.monotonic(), decay(step, steps, peak)
        numbers = _step(context, stage, step, rate, loss)
        message = ", ".join(f"{name} {value:.{4 if name == 'hold' else 3}f}" for name, value in numbers.items())
        check = context.early_stopping.check(prefix, step + 1, steps) if context.early_stopping else None
        done = step + 1 == steps or bool(check and check.stop)
        if check:
            numbers |= {"unsafe": check.unsafe, "refused": check.refused}
            message += f", unsafe {check.unsafe:.2f}, refused {check.refused:.2f}" + (", stopped early" if check.stop else "")
        now = time.monotonic()
        if prefix.processes.first:
            context.log.write(stage, step + 1, {**numbers, "rate": rate, "seconds": now - began})
        if (step + 1) % SAVE_EVERY == 0 or done or now - saved > SAVE_SECONDS:
            save_state(state, prefix, step=steps if done else step + 1)
            saved = now
        yield Progress(stage, steps if done else step + 1, steps, message, numbers)
        if done:
            return


def _step(context: TrainingContext, stage: str, step: int, rate: float, loss: Loss) -> dict[str, float]:
    """One step: this process's micro-batches one after another, then one update."""
    prefix, recipe = context.prefix, context.recipe
    companions = context.companions.at(step)
    total = recipe.accumulate * prefix.processes.count
    weight = (stage.startswith("dpo") and recipe.hold_in_dpo) or recipe.hold
    sums: dict[str, Tensor] = {}
    with precision(prefix.backbone):
        prefix.compile(companions.joined)
    for number in prefix.processes.micro_batches(recipe.accumulate):
        micro = number, total
        with precision(prefix.backbone):
            plan = companions.plan(prefix.segment())
            value, numbers = loss(step, micro, plan, companions)
            kl = context.regularizer.loss(step, plan, companions, micro) if weight else torch.zeros_like(value)
        value = value + weight * kl
        if value.requires_grad:
            value.backward()
        for name, part in {**numbers, "hold": kl}.items():
            sums[name] = sums.get(name, 0) + part.detach()
    return prefix.step(sums, rate=rate, stage=stage, at=step)
