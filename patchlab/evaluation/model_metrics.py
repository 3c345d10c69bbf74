"""Metrics that ask a model for probabilities: perplexity, topic, pronouns and distance between lanes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from patchlab.engine import Lane
from patchlab.evaluation import probabilities
from patchlab.evaluation.metrics import REFUSAL, Verdicts, by_prompt, present, prompts_of
from patchlab.evaluation.probabilities import divergences, divergences_from, log_losses, pronoun_chances
from patchlab.models import Backbone
from patchlab.records import Prompt, Reply
from patchlab.scoring import load_scorer
from patchlab.storage import sha256

OTHERS = 3  # requests a reply is held against, beside its own

Figure = tuple[str, str, list[float]]  # scorer, its digest, one value a prompt
ModelMetric = Callable[["Judges", Lane, Sequence[Reply]], Iterator[Figure]]


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """What can say something about the replies of a lane: models, and the scorers' verdicts."""

    base: Backbone
    reference: Backbone | None = None
    judge: Backbone | None = None
    verdicts: Verdicts = field(default_factory=Verdicts)

    def unable(self, metric: str) -> str:
        """Why a metric cannot be measured with these models; empty where it can."""
        if metric in ("log_loss", "helpful_rate") and not (self.judge or self.reference):
            return "it takes a judge or a reference, since no model judges its own replies"
        if metric != "kl_to_reference":
            return ""
        if self.reference is None:
            return "there is no reference"
        same = self.base.identity.tokenizer_digest == self.reference.identity.tokenizer_digest
        return "" if same else "base and reference have different tokenizers"

    def of(self, lane: Lane) -> tuple[Backbone, str]:
        """The model that judges a lane, with its name: the judge, else the reference; the reference is judged by the base."""
        found = self.judge or (self.base if lane.backbone is self.reference else self.reference)
        assert found is not None
        name = self.name(found)
        own = found.identity.fingerprint == lane.backbone.identity.fingerprint
        return found, f"{name} on its own replies" if own else name

    def name(self, model: Backbone) -> str:
        """A model's name; where another has the same, with the first digits of its fingerprint."""
        models = [each for each in (self.base, self.reference, self.judge) if each and each.name == model.name]
        same = all(each.identity.fingerprint == model.identity.fingerprint for each in models)
        return model.name if same else f"{model.name} {model.identity.fingerprint.rpartition(':')[2][:8]}"


def log_loss(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """Nats a token of each reply under the judge; reported with its exponential, perplexity."""
    judge, name = judges.of(lane)
    yield name, judge.identity.fingerprint, by_prompt(replies, _on_said(replies, lambda said: log_losses(judge, said)))


def helpful_rate(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """Share of samples that answer, and on the topic; one figure for each scorer of refusals.

    A reply is on the topic where the judge finds it likelier after its own request than after each of three others of
    the suite (their pointwise mutual information is then the highest); chance alone gives a quarter. It does not say
    that the answer is right. NaN where there are no three other requests.
    """
    judge, judge_name = judges.of(lane)
    prompts = prompts_of(replies)
    own = _on_said(replies, lambda said: log_losses(judge, said))
    best = [True] * len(own)
    for other in _others(prompts):
        losses = _on_said(replies, lambda said, other=other: log_losses(  # type: ignore[misc]
            judge, [replace(reply, prompt=other[reply.prompt.key]) for reply in said]))
        best = [so_far and mine < loss for so_far, mine, loss in zip(best, own, losses, strict=True)]
    for name in present(REFUSAL):
        refused = [score.flagged for score in judges.verdicts.of(name, replies)]
        values = [float(on and not no) if len(prompts) > OTHERS else math.nan for on, no in zip(best, refused, strict=True)]
        digest = hashlib.sha256(f"{load_scorer(name).digest} {judge.identity.fingerprint}".encode()).hexdigest()
        yield f"{name}, {judge_name}", digest, by_prompt(replies, values)


def _others(prompts: Sequence[Prompt]) -> list[dict[str, Prompt]]:
    """For every prompt another one, OTHERS times over: those a quarter, a half and three quarters of the suite away."""
    steps = [max(k, len(prompts) * k // (OTHERS + 1)) for k in range(1, OTHERS + 1)]
    return [{prompt.key: prompts[(at + step) % len(prompts)] for at, prompt in enumerate(prompts)} for step in steps]


def pronoun_gap(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """|p(he) - p(she)| as what comes next (gender logits difference of the paper); 0 is even."""
    yield _pronouns(lane, replies, lambda he, she: abs(he - she))


def pronoun_balance(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """The rarer of he and she against both: 1 where they are equally likely, 0 where only one is."""
    yield _pronouns(lane, replies, lambda he, she: 2 * min(he, she) / (he + she) if he + she > 0 else math.nan)


def _pronouns(lane: Lane, replies: Sequence[Reply], value: Callable[[float, float], float]) -> Figure:
    # in a chat the next word is not the sentence's: no number there
    prompts = prompts_of(replies)
    chances = iter(pronoun_chances(lane.backbone, [prompt for prompt in prompts if prompt.kind == "continue"], lane.plans))
    values = [value(*next(chances)) if prompt.kind == "continue" else math.nan for prompt in prompts]
    return "next word", sha256(Path(probabilities.__file__)), values


def kl_to_base(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """KL(base || lane) on what the base says, nats a token."""
    base = judges.base
    yield judges.name(base), base.identity.fingerprint, by_prompt(
        replies, _on_said(replies, lambda said: divergences(base, said, lane.plans)))


def kl_to_reference(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """KL(reference || lane) on what the reference says, nats a token."""
    reference = judges.reference
    assert reference is not None
    yield judges.name(reference), reference.identity.fingerprint, by_prompt(
        replies, _on_said(replies, lambda said: divergences_from(reference, lane.backbone, said, lane.plans)))


def _on_said(replies: Sequence[Reply], compute: Callable[[Sequence[Reply]], list[float]]) -> list[float]:
    """One value a reply, NaN for those without a text."""
    said = [reply for reply in replies if reply.text]
    values = iter(compute(said) if said else [])
    return [next(values) if reply.text else math.nan for reply in replies]


MODELLED: dict[str, ModelMetric] = {
    "log_loss": log_loss, "helpful_rate": helpful_rate, "pronoun_gap": pronoun_gap, "pronoun_balance": pronoun_balance,
    "kl_to_base": kl_to_base, "kl_to_reference": kl_to_reference}
