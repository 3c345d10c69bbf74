"""Reads systems on the public suites: one value a prompt for each system, suite and judge, and the figures made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from benchmarks.quality.conversation_read import drawn
from benchmarks.speed.timing import Figure
from patchlab.engine import Lab, Lane, Sampling
from patchlab.engine.lanes import Plans
from patchlab.engine.likelihood import encode_texts, reply_logits
from patchlab.evaluation.metrics import METRICS, Judged, by_prompt, flagged_rate, highest, scores
from patchlab.evaluation.probabilities import log_losses
from patchlab.evaluation.reply_store import Replies
from patchlab.evaluation.statistics import Interval, effect_kept, gap_closed, interval, meets, paired
from patchlab.models import Backbone
from patchlab.patches import Stack
from patchlab.records import Prompt, Reply
from patchlab.scoring import first_pronoun, judge_set
from patchlab.scoring.answer import answer_of
from patchlab.scoring.bias import gendered_rate

Values = list[float]
Key = tuple[str, str, str, str]  # system, suite, what is read, judge
MALE, FEMALE = " he", " she"


@dataclass(frozen=True, slots=True)
class System:
    """A column of the table: the base, the reference or a stack of the base, perhaps with an instruction before each prompt."""

    name: str
    stack: Stack | None = None
    lane: str = "base"
    instruction: str = ""

    def prompts(self, asked: Sequence[Prompt]) -> list[Prompt]:
        """The prompts as this system gets them: a system message for a chat, words before a text to continue."""
        if not self.instruction:
            return [*asked]
        return [replace(prompt, system=self.instruction) if prompt.kind == "chat"
                else replace(prompt, text=f"{self.instruction}\n\n{prompt.text}") for prompt in asked]

    def running(self, lab: Lab) -> Lane:
        """The lane that draws its replies."""
        if self.lane == "reference":
            [found] = lab.lanes(names=["reference"])
            return replace(found, name=self.name)
        return Lane(self.name, lab.scheduler, self.plans(lab))

    def plans(self, lab: Lab) -> Plans:
        """Which patches are on for which prompt."""
        stack = self.stack or Stack()
        return lambda prompts: lab.planner.plans(stack, prompts)


@dataclass(slots=True)
class Table:
    """All values read so far, one a prompt; prompts are in the same order for every system."""

    values: dict[Key, Values] = field(default_factory=dict)
    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)  # of a system to a suite

    def of(self, system: str, suites: Sequence[str], what: str, judge: str) -> Values:
        """The values of several suites, one after another."""
        return [value for suite in suites for value in self.values[system, suite, what, judge]]


def read(table: Table, lab: Lab, system: System, suite: str, prompts: Sequence[Prompt], store: Replies, sampling: Sampling,
         samples: int) -> None:
    """Draw and judge one suite of one system."""
    given = system.prompts(prompts)
    found = drawn(store, [system.running(lab)], given, sampling, samples=samples)
    original = dict(zip((each.key for each in given), prompts, strict=True))
    found = [replace(reply, prompt=original[reply.prompt.key]) for reply in found]
    table.replies[system.name, suite] = found
    domain = prompts[0].domain
    keep = table.values
    if domain in ("harmful", "lookalike", "benign"):
        for judge in judges("refusal_rate"):
            keep[system.name, suite, "refused", judge] = flagged_rate(found, scores(judge, found))
        if system.stack and system.stack.gates:  # where every gate is off the row is the base's own
            keep[system.name, suite, "a patch is on", "gate"] = [float(len(plan.skipped) < len(system.stack.entries))
                                                                 for plan in system.plans(lab)(prompts)]
    if domain == "toxicity":
        for judge in judges("toxic_rate"):
            judged = scores(judge, found)
            keep[system.name, suite, "toxic", judge] = flagged_rate(found, judged)
            keep[system.name, suite, "expected maximum", judge] = highest(found, judged)
        keep[system.name, suite, "log-loss", "base"] = by_prompt(found, _losses(lab.base, found))
    if domain == "bias":
        keep[system.name, suite, "gendered words", "word list"] = by_prompt(
            found, [gendered_rate(answer_of(reply.text)) for reply in found])
        pronouns = [first_pronoun(answer_of(reply.text)) for reply in found]
        keep[system.name, suite, "he", "first pronoun"] = [
            float(each == "he") if each in ("he", "she") else math.nan for each in pronouns]


def _losses(base: Backbone, found: Sequence[Reply]) -> Values:
    """Nats a token of replies under the base; NaN for one without text."""
    written = [reply for reply in found if reply.text]
    losses = iter(log_losses(base, written))
    return [next(losses) if reply.text else math.nan for reply in found]


def judges(metric: str) -> tuple[str, ...]:
    """The two judges of a metric."""
    judged = METRICS[metric]
    assert isinstance(judged, Judged)
    return judge_set().of(judged.claim)


@torch.no_grad()
def log_odds(lab: Lab, system: System, places: Mapping[str, Sequence[Prompt]]) -> Values:
    """For each occupation the mean log(p(he) / p(she)) where its sentences go on with a pronoun."""
    backbone = lab.reference if system.lane == "reference" and lab.reference else lab.base
    he, she = (backbone.tokenizer.encode(word, add_special_tokens=False)[0] for word in (MALE, FEMALE))
    found = []
    for prompts in places.values():
        given = system.prompts(prompts)
        plans = system.plans(lab)(given) if system.lane == "base" else [None] * len(given)
        odds = []
        for prompt, plan in zip(given, plans, strict=True):
            texts = encode_texts(backbone, [prompt], [MALE], cut=[True])
            logits = (reply_logits(backbone, texts, plan) if plan else reply_logits(backbone, texts))[0].float()
            odds.append(float(logits[he] - logits[she]))
        found.append(sum(odds) / len(odds))
    return found


def worst(found: Sequence[tuple[Interval, int]], bar: str) -> tuple[Interval, int]:
    """Of the judges' figures the one that is nearest to missing the bar."""
    down = bar.startswith("<=")
    return max(found, key=lambda each: each[0][2]) if down else min(found, key=lambda each: each[0][1])


def judged(name: str, found: Sequence[tuple[Interval, int]], bar: str = "", unit: str = "") -> Figure:
    """A figure of the worse judge; one without a bar is that of the first judge."""
    (value, low, high), n = worst(found, bar) if bar else found[0]
    return Figure(name, value, low, high, n, unit=unit, bar=bar, met=meets(bar, low, high) if bar else None)


def rate(table: Table, system: str, suites: Sequence[str], what: str, metric: str) -> list[tuple[Interval, int]]:
    """A rate by each judge of a metric."""
    found = []
    for judge in judges(metric):
        known = [value for value in table.of(system, suites, what, judge) if not math.isnan(value)]
        found.append((interval(known, share=True), len(known)))
    return found


def closed(table: Table, system: str, suites: Sequence[str], what: str, metric: str) -> list[tuple[Interval, int]]:
    """The share of the gap between base and reference that a system closes, by each judge."""
    return [(gap_closed(*(table.of(who, suites, what, judge) for who in ("base", system, "reference"))),
             len(table.of(system, suites, what, judge))) for judge in judges(metric)]


def fallen(first: Sequence[float], second: Sequence[float]) -> tuple[Interval, int]:
    """By which share the mean of `second` is below that of `first`."""
    return gap_closed(first, second, [0.0] * len(first)), len(first)


def kept(table: Table, alone: str, together: str, suites: Sequence[str], what: str, metric: str, target: float,
         ) -> list[tuple[Interval, int]]:
    """How much of a patch's effect is left with the others beside it, by each judge."""
    found = []
    for judge in judges(metric):
        base, first, second = (table.of(who, suites, what, judge) for who in ("base", alone, together))
        found.append((effect_kept((base, first), (base, second), target=target), len(base)))
    return found


def more(table: Table, system: str, suites: Sequence[str], what: str, metric: str) -> list[tuple[Interval, int]]:
    """By how much a rate is above the base's, by each judge."""
    found = []
    for judge in judges(metric):
        value, low, high, _, n = paired(table.of("base", suites, what, judge), table.of(system, suites, what, judge))
        found.append(((value, low, high), n))
    return found

