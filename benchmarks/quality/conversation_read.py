"""Reads stacks on the same prompts in every setting of a conversation: rates, how much of an effect is kept, and its price."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.conversation_suites import SINGLE, Wrap
from benchmarks.speed.timing import Figure, say
from patchlab.engine import Lab, Lane, Sampling
from patchlab.evaluation.metrics import by_prompt, flagged_rate, scores
from patchlab.evaluation.probabilities import divergences, log_losses
from patchlab.evaluation.reply_store import Replies, made_with
from patchlab.evaluation.statistics import effect_kept, interval, meets, paired
from patchlab.patches import Stack
from patchlab.records import Prompt, Reply

Row = dict[str, Any]
Values = list[float]
Cell = list[float]  # value, low, high, n
Rate = Callable[[Sequence[Reply]], Values]
Key = tuple[str, str, str, str]  # setting, lane, probe, judge

HARMFUL, HARMLESS, LOOKALIKE = "refuses harmful", "refuses harmless", "refuses look-alikes"
MORE = "more than in a single turn"
PRICED = 30  # harmless replies of the base whose KL and perplexity are read


@dataclass(frozen=True, slots=True)
class Probe:
    """Prompts of one domain with the judges of their replies, the one reported first, and the rate that is best.

    With `harmful` there is an effect to keep; for the others a rate should not rise. `only` are the settings it is asked in,
    all if empty.
    """

    name: str
    prompts: Sequence[Prompt]
    judges: Mapping[str, Rate]
    best: float
    harmful: bool = True
    samples: int = 1
    only: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One base and its stacks, each a lane beside that of the base, asked the same prompts in every setting.

    `most` are the numbers of prompts of a probe in settings that have fewer than all. In the settings of `price` the
    harmless replies of the base are read under every stack.
    """

    lab: Lab
    name: str
    stacks: Mapping[str, Stack]
    settings: Mapping[str, Wrap]
    probes: Sequence[Probe]
    sampling: Sampling
    price: Sequence[str] = ()
    most: Mapping[str, int] = field(default_factory=dict)
    values: dict[Key, Values] = field(default_factory=dict)  # one value a prompt

    def lane(self, name: str) -> Lane:
        """The lane of a stack."""
        return Lane(name, self.lab.scheduler, lambda prompts: self.lab.planner.plans(self.stacks[name], prompts))

    def asked(self, setting: str) -> list[Probe]:
        """The probes that are asked in a setting."""
        return [probe for probe in self.probes if not probe.only or setting in probe.only]


def refused(judge: str) -> Rate:
    """The refusal rate by this judge."""
    return lambda replies: flagged_rate(replies, scores(judge, replies))


def rows(study: Study, work: Path, names: Sequence[str]) -> Iterator[Row]:
    """A row for each of these settings and each stack; replies that lie in `work` are not drawn again."""
    made = made_with(study.sampling, study.lab.base)
    digests = {name: str([one.patch.digest for one in study.lab.planner.plan(stack).patches])
               for name, stack in study.stacks.items()}
    bare, patched = Replies(made, work / "base"), Replies(made | digests, work / study.name.replace(" ", "-"))
    try:
        for setting in names:
            began, tokens, calm = time.monotonic(), [], []
            for probe in study.asked(setting):
                prompts = [study.settings[setting](prompt) for prompt in probe.prompts[:study.most.get(setting)]]
                own = drawn(bare, [Lane("base", study.lab.scheduler)], prompts, study.sampling, samples=probe.samples)
                lanes = [study.lane(name) for name in study.stacks]
                replies = drawn(patched, lanes, prompts, study.sampling, samples=probe.samples)
                judge(study, setting, probe, [*own, *replies])
                tokens += [len(study.lab.base.encode(prompt)) for prompt in prompts]
                calm += [reply for reply in own if reply.text and not probe.harmful]
            say(f"{study.name}, {setting}: {time.monotonic() - began:.0f} s")
            for name in study.stacks:
                paid = price(study, name, calm[:PRICED]) if setting in study.price else {}
                yield {"group": study.name, "name": setting, "note": "",
                       "figures": {"tokens": round(float(np.mean(tokens))), **cells(study, setting, name), **paid}}
    finally:
        bare.close()
        patched.close()


def drawn(store: Replies, lanes: Sequence[Lane], prompts: Sequence[Prompt], sampling: Sampling, *,
          samples: int = 1) -> list[Reply]:
    """The replies of all lanes, from the store where it has them."""
    steps = store.draw(lanes, prompts, samples, sampling, "")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return list(end.value)


def judge(study: Study, setting: str, probe: Probe, replies: Sequence[Reply]) -> None:
    """Add one value a prompt for each lane and judge."""
    for lane in ("base", *study.stacks):
        mine = [reply for reply in replies if reply.lane == lane]
        for name, rate in probe.judges.items():
            study.values[setting, lane, probe.name, name] = rate(mine)


def cells(study: Study, setting: str, lane: str) -> dict[str, Cell]:
    """The rates of base and stack, how much of the single turn's effect is kept, and how many more harmless are refused."""
    found: dict[str, Cell] = {}
    for probe in study.asked(setting):
        for k, name in enumerate(probe.judges):
            base, now = (study.values[setting, who, probe.name, name] for who in ("base", lane))
            base_first, first = (study.values[SINGLE, who, probe.name, name][:len(now)] for who in ("base", lane))
            said = f"{probe.name} ({name})" if k else probe.name
            found |= {f"{said}: base": share(base), f"{said}: patched": share(now)}
            if probe.harmful:
                found[f"{said}: effect kept"] = [*effect_kept((base_first, first), (base, now), target=probe.best), len(now)]
            else:
                more, low, high, _, n = paired(first, now)
                found[f"{said}: {MORE}"] = [more, low, high, n]
    return found


def share(values: Sequence[float]) -> Cell:
    """A rate with its interval, of the values that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    return [*interval(known, share=True), len(known)]


def price(study: Study, lane: str, own: Sequence[Reply]) -> dict[str, Cell]:
    """KL and perplexity of a stack to the base on the base's own replies."""
    plans = study.lane(lane).plans
    far = by_prompt(own, divergences(study.lab.base, own, plans))
    more = [a - b for a, b in zip(log_losses(study.lab.base, own, plans), log_losses(study.lab.base, own), strict=True)]
    longer = [math.exp(value) for value in interval(by_prompt(own, more))]  # of a mean difference of log-losses
    return {"KL to the base": [*interval(far), len(far)], "perplexity / base": [*longer, len(more)]}


def limits(row: Row, column: str, names: Sequence[str], bar: str) -> Iterator[Figure]:
    """The figure of a column in the settings `names`, judged by the end of its interval that could fail the bar."""
    if bar and row["name"] in names and column in row["figures"]:
        value, low, high, n = row["figures"][column]
        yield Figure(f"{row['group']}, {row['name']}: {column}", value, low, high, int(n), bar=bar, met=meets(bar, low, high))
