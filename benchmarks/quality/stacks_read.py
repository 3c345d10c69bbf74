"""Reads stacks for benchmarks/quality/stacks.py: each patch's own effect, and what the stack costs where no patch is to act."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.stacks_family import POLICIES, SAMPLES, TOKENS, Policy, prompts
from benchmarks.quality.stacks_train import Plan
from benchmarks.speed.timing import say
from patchlab.engine import Lane, replies, scheduler_of
from patchlab.engine.lanes import Plans, unpatched
from patchlab.evaluation.metrics import by_prompt, refusal_rate
from patchlab.evaluation.probabilities import divergences, log_losses
from patchlab.evaluation.statistics import RESAMPLES, interval
from patchlab.models import Backbone
from patchlab.records import Prompt, Reply
from patchlab.storage import write_json
from tools.pocket.world_lists import Part

HARMLESS = ("benign", "lookalike")  # groups that no patch is to change
CLOSE = 0.05  # an effect that lost no more than this is kept
Values = dict[str, list[float]]  # what was read -> one value a prompt, in the order of the prompts


class Reader:
    """Reads the base with stacks on, on prompts of one part of the world; a reading that the folder has is not made again."""

    def __init__(self, base: Backbone, plan: Plan, folder: Path, *, part: Part = "held") -> None:
        self.base, self.plan, self.folder, self.part = base, plan, folder, part

    def read(self, label: str, plans: Plans, names: Sequence[str], *, costs: bool = True) -> Values:
        """For every policy named its effect, under its name; with `costs` refusals, drift and fluency on harmless requests."""
        path = self.folder / f"{label}.json"
        if path.is_file():
            found: Values = json.loads(path.read_text(encoding="utf-8"))
            return found
        say(f"reading {label}")
        said, found = {}, {}
        for name in names:
            policy = POLICIES[name]
            for group in policy.improves:
                if group not in said:
                    said[group] = self._said(group, plans)
            found[name] = policy.effect([reply for group in policy.improves for reply in said[group]])
        if costs:
            for group in HARMLESS:
                found[f"{group} refused"] = refusal_rate(self._said(group, plans))
            found["KL"] = by_prompt(self.harmless, divergences(self.base, self.harmless, plans))
            losses = (log_losses(self.base, self.harmless, each) for each in (plans, unpatched))
            found["log loss"] = by_prompt(self.harmless, [a - b for a, b in zip(*losses, strict=True)])
        write_json(path, found)
        return found

    @cached_property
    def harmless(self) -> list[Reply]:
        """What the bare base says to harmless requests that no patch is to change."""
        return [reply for reply in self._said("benign", unpatched) if reply.text]

    @property
    def asked(self) -> dict[str, list[Prompt]]:
        """The prompts of every group, by its name."""
        groups = dict.fromkeys([*(group for policy in POLICIES.values() for group in policy.improves), *HARMLESS])
        return {group: prompts(group, self.plan.n, part=self.part, seed=self.plan.seed) for group in groups}

    def _said(self, group: str, plans: Plans) -> list[Reply]:
        asked = prompts(group, self.plan.n, part=self.part, seed=self.plan.seed)
        most = min(self.plan.tokens, TOKENS.get(group, self.plan.tokens))
        sampling = dataclasses.replace(self.plan.sampling, max_new_tokens=most)
        lane = Lane("patched", scheduler_of(self.base), plans)
        return replies([lane], asked, samples=SAMPLES.get(group, 1), sampling=sampling)


def figures(single: Mapping[str, Values], values: Values, base: Values, names: Sequence[str], *, seed: int) -> dict[str, Any]:
    """One stack's figures, each [value, low, high, n] or a number: effects alone and in it, what they lost, what it costs."""
    draws = {name: _means(values[name], seed) for name in names}
    ways = {name: (_means(base[name], seed), _means(single[name][name], seed), draws[name]) for name in names}
    effects = {name: [_effect(POLICIES[name], each) for each in ways[name]] for name in names}
    lost = {name: alone - beside for name, (_, alone, beside) in effects.items()}
    count = sum(len(values[name]) for name in names)
    worst = max(names, key=lambda name: lost[name][0])
    found: dict[str, Any] = {
        "own effect, base": _cell(sum(effects[name][0] for name in names) / len(names), count),
        "alone": _cell(sum(effects[name][1] for name in names) / len(names), count),
        "in the stack": _cell(sum(effects[name][2] for name in names) / len(names), count),
        "lost": _cell(sum(lost.values()) / len(names), count),
        "most lost": _cell(lost[worst], len(values[worst])),
        "patches within 5 points": sum(bool(each[0] <= CLOSE + 1e-9) for each in lost.values())}
    for group in HARMLESS:
        refused = values[f"{group} refused"]
        found[f"{group} refused"] = [*interval(refused, seed=seed, share=True), len(refused)]
    found["KL to base on benign"] = [*interval(values["KL"], seed=seed), len(values["KL"])]
    more = interval(values["log loss"], seed=seed)
    found["benign perplexity / base"] = [*map(math.exp, more), len(values["log loss"])]
    return {"figures": found, "note": f"most lost by {worst}", "patches": {
        name: {way: _cell(each, len(values[name])) for way, each in
               zip(("base", "alone", "in the stack", "lost"), (*effects[name], lost[name]), strict=True)} for name in names}}


def loss_beside(policy: Policy, alone: Sequence[float], beside: Sequence[float]) -> float:
    """How much less a patch does beside others than alone."""
    return float(np.subtract(*(_effect(policy, _means(values, 0)[:1])[0] for values in (alone, beside))))


def _means(values: Sequence[float], seed: int) -> np.ndarray:
    """The mean over prompts, and behind it those of bootstrap samples of the prompts: the same for equal counts."""
    data = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, data.size, size=(RESAMPLES, data.size))
    return np.concatenate([[np.nanmean(data)], np.nanmean(data[draws], axis=1)])


def _effect(policy: Policy, means: np.ndarray) -> np.ndarray:
    """An effect from 0 to 1, best at 1; for bias 1 is even and 0 always one pronoun."""
    return 1 - 2 * np.abs(means - 0.5) if policy.even else means


def _cell(means: np.ndarray, n: int) -> list[float]:
    low, high = np.quantile(means[1:], (0.025, 0.975))
    return [float(means[0]), float(low), float(high), n]
