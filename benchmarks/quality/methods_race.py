"""The two speeds of benchmarks/quality/methods.py: decoding with each method, and SFT by ours against peft + trl.

Each is taken in one process with the sides in turn; that of training begins anew in every turn and counts from the end of its
first step, so that loading, tokenizing and making ready are nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.quality.methods_data import Data, Dials
from benchmarks.quality.methods_read import Instructed
from benchmarks.quality.methods_train import Clock, load, lora, our_steps, prompt_tuning, sft_trainer
from benchmarks.speed.decode import stepping, tuned_step
from benchmarks.speed.sizes import PROMPT, Bare, patches, prompt_tuned
from benchmarks.speed.timing import Figure, Side, race, ratio
from patchlab.engine import Bank, StackPlan

BARE = "base"


def decoding(dials: Dials) -> dict[str, Figure]:
    """Seconds of so many decode steps, prompt already read, over those of the bare base; what an adapter holds matters not."""
    base = load("base")
    [patch] = patches(base, 1)
    plan = StackPlan.of((Bank(base).segment([patch]), 1.0))
    written = Instructed(base, dials.shipped.instruction).encode(PROMPT)
    ids = base.encode(PROMPT)

    def whole(begin: Side) -> Side:
        """All tokens in one turn: turns of one step would find the weights of every other model in the cache."""
        def ready() -> Callable[[], object]:
            step = begin()
            return lambda: [step() for _ in range(dials.tokens)]

        return ready

    def bare(model: torch.nn.Module, read: list[int]) -> Side:
        return whole(lambda: Bare(model, torch.tensor([read])))

    sides: dict[str, Side] = {BARE: bare(base.model, ids), "written prompt": bare(base.model, written),
                              "ours": whole(lambda: stepping(base, plan, dials.tokens))}
    for rank in (1, 16):
        sides[f"LoRA rank {rank}, unmerged"] = bare(lora(load("base"), rank=rank, seed=0).eval().requires_grad_(False), ids)
        merged = lora(load("base"), rank=rank, seed=0).merge_and_unload().eval()
        sides[f"LoRA rank {rank}, merged"] = bare(merged, ids)
    tuned = load("base")
    wrapped = prompt_tuned(tuned, patches(tuned, 1))
    sides["prompt tuning (peft + trl)"] = whole(lambda: tuned_step(tuned, wrapped))
    taken = race(sides, repeats=dials.repeats)
    return {name: ratio(name, taken, name, BARE) for name in sides}


def training(data: Data, dials: Dials, work: Path, *, bar: str = ">= 2") -> list[Figure]:
    """SFT on the same rows, the same batches and the same start, with no KL term: rows a second, and ours over theirs."""
    recipe = dials.plain(dials.prefix_rates[0], sft_steps=dials.race_steps + 1, dpo_steps=0)

    def ours() -> Clock:
        clock = Clock()
        for progress in our_steps(data, recipe, work / "race-ours"):
            if progress.stage == "sft":
                clock.tick()
        return clock

    def theirs() -> Clock:
        clock, base = Clock(), load("base", attention="eager")
        wrapped = prompt_tuning(base, recipe)
        sft_trainer(wrapped, base, data.sft(recipe.sft_steps), recipe=recipe, folder=work / "race-trl", clock=clock).train()
        return clock

    rates: dict[Callable[[], Clock], list[float]] = {ours: [], theirs: []}
    for repeat in range(dials.repeats + 1):  # the first warms up
        for side in (ours, theirs)[::1 if repeat % 2 else -1]:
            rate = side().a_second(recipe.rows)
            if repeat:
                rates[side].append(rate)
    return [Figure.of("SFT samples a second, ours / peft + trl",
                      [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)], bar=bar),
            Figure.of("SFT samples a second, ours", rates[ours], unit="1/s"),
            Figure.of("SFT samples a second, peft + trl", rates[theirs], unit="1/s")]
