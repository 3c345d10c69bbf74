"""Metrics computed from a model's probabilities: perplexity, relevance of replies, pronoun bias, and KL between lanes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from patchlab.engine import Lane
from patchlab.evaluation import probabilities
from patchlab.evaluation.metrics import Verdicts, by_prompt, prompts_of
from patchlab.evaluation.probabilities import divergences_from, log_losses, pronoun_chances
from patchlab.models import Backbone
from patchlab.records import Prompt, Reply
from patchlab.scoring import load_scorer
from patchlab.storage import sha256

OTHERS = 3  # other prompts of the suite that a reply is tested against

Figure = tuple[str, str, list[float]]  # scorer, its digest, one value per prompt
ModelMetric = Callable[["Judges", Lane, Sequence[Reply]], Iterator[Figure]]


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """The models and scorer verdicts that metrics are computed with."""

    base: Backbone
    reference: Backbone | None = None
    judge: Backbone | None = None
    verdicts: Verdicts = field(default_factory=Verdicts)

    def unable(self, metric: str) -> str:
        """The reason why a metric cannot be computed with these models; empty if it can."""
        if metric in ("log_loss", "helpful_rate") and not (self.judge or self.reference):
            return "it needs a judge or a reference, since no model judges its own replies"
        if metric != "kl_to_reference":
            return ""
        if self.reference is None:
            return "there is no reference"
        same = self.base.identity.tokenizer_digest == self.reference.identity.tokenizer_digest
        return "" if same else "base and reference have different tokenizers"

    def of(self, lane: Lane) -> tuple[Backbone, str]:
        """The model that judges a lane and its name: the judge if given, else the reference; for the reference, the base."""
        model = self.judge or (self.base if lane.backbone is self.reference else self.reference)
        assert model is not None
        same = model.identity.fingerprint == lane.backbone.identity.fingerprint
        return model, f"{self.name(model)} on its own replies" if same else self.name(model)

    def name(self, model: Backbone) -> str:
        """A model's name, with the first digits of its fingerprint if another model here has the same name."""
        models = [each for each in (self.base, self.reference, self.judge) if each and each.name == model.name]
        same = all(each.identity.fingerprint == model.identity.fingerprint for each in models)
        return model.name if same else f"{model.name} {model.identity.fingerprint.rpartition(':')[2][:8]}"


def log_loss(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """Mean negative log-likelihood per token (nats) of each reply under the judge."""
    judge, name = judges.of(lane)
    yield name, judge.identity.fingerprint, by_prompt(replies, _per_reply(replies, lambda texts: log_losses(judge, texts)))


def helpful_rate(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
    """Share of samples that do not refuse and are on topic; one figure per refusal scorer.

    A reply is on topic if its likelihood under the judge is higher after its own prompt than after each of three other
    prompts of the suite, that is, if its pointwise mutual information with its own prompt is the highest; a random reply is
    on topic in 1 of 4 cases. Correctness is not tested. NaN if the suite has no three other prompts, and for an empty or
    unjudged reply.
    """
    judge, judge_name = judges.of(lane)
    prompts = prompts_of(replies)
    losses = _per_reply(replies, lambda texts: log_losses(judge, texts))
    on_topic = [True] * len(losses)
    for other in _others(prompts):
        others = _per_reply(replies, lambda texts, other=other: log_losses(  # type: ignore[misc]
            judge, [replace(reply, prompt=other[reply.prompt.key]) for reply in texts]))
        on_topic = [so_far and loss < elsewhere for so_far, loss, elsewhere in zip(on_topic, losses, others, strict=True)]
    for name in judges.verdicts.judges.refusal:
        verdicts = judges.verdicts.of(name, replies)
        values = [float(on and not verdict.flagged) if len(prompts) > OTHERS and verdict.known else math.nan
                  for on, verdict in zip(on_topic, verdicts, strict=True)]
        digest = hashlib.sha256(f"{load_scorer(name).digest} {judge.identity.fingerprint}".encode()).hexdigest()
        yield f"{name}, {judge_name}", digest, by_prompt(replies, values)


def _others(prompts: Sequence[Prompt]) -> list[dict[str, Prompt]]:
    """OTHERS maps from each prompt to another: the one a quarter, a half and three quarters of the suite further on."""
    steps = [max(k, len(prompts) * k // (OTHERS + 1)) for k in range(1, OTHERS + 1)]
    return [{prompt.key: prompts[(at + step) % len(prompts)] for at, prompt in enumerate(prompts)} for step in steps]


def next_pronoun(value: Callable[[float, float], float]) -> ModelMetric:
    """The metric `value(p(he), p(she))` of the next word; NaN in a chat, where the next word begins a reply."""
    def compute(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
        prompts = prompts_of(replies)
        chances = iter(pronoun_chances(lane.backbone, [prompt for prompt in prompts if prompt.kind == "continue"], lane.plans))
        values = [value(*next(chances)) if prompt.kind == "continue" else math.nan for prompt in prompts]
        yield "next word", sha256(Path(probabilities.__file__)), values

    return compute


def kl_from(origin_of: Callable[[Judges], Backbone | None]) -> ModelMetric:
    """The metric KL(origin || lane) in nats per token, on replies of the origin: the base or the reference."""
    def compute(judges: Judges, lane: Lane, replies: Sequence[Reply]) -> Iterator[Figure]:
        origin = origin_of(judges)
        assert origin is not None
        values = _per_reply(replies, lambda texts: divergences_from(origin, lane.backbone, texts, lane.plans))
        yield judges.name(origin), origin.identity.fingerprint, by_prompt(replies, values)

    return compute


def _per_reply(replies: Sequence[Reply], compute: Callable[[Sequence[Reply]], list[float]]) -> list[float]:
    """One value per reply, NaN for empty replies."""
    texts = [reply for reply in replies if reply.text]
    values = iter(compute(texts) if texts else [])
    return [next(values) if reply.text else math.nan for reply in replies]


MODELLED: dict[str, ModelMetric] = {
    "log_loss": log_loss,
    "helpful_rate": helpful_rate,
    "pronoun_gap": next_pronoun(lambda he, she: abs(he - she)),  # gender logits difference of the paper; 0 is balanced
    # 1 if both are equally likely, 0 if only one is possible
    "pronoun_balance": next_pronoun(lambda he, she: 2 * min(he, she) / (he + she) if he + she > 0 else math.nan),
    "kl_to_base": kl_from(lambda judges: judges.base),
    "kl_to_reference": kl_from(lambda judges: judges.reference),
}
