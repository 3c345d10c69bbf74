"""Metrics that ask a model for probabilities: perplexity, topic, pronouns and distance between lanes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from patchlab.engine import Lane, Trio
from patchlab.evaluation import probabilities
from patchlab.evaluation.metrics import REFUSAL, by_prompt, present, prompts_of, scores
from patchlab.evaluation.probabilities import divergences, divergences_from, log_losses, pronoun_chances
from patchlab.models import Backbone
from patchlab.records import Prompt, Reply
from patchlab.scoring import load_scorer
from patchlab.storage import sha256

OTHERS = 3  # requests a reply is held against, beside its own

Figure = tuple[str, str, list[float]]  # scorer, its digest, one value a prompt


@dataclass(frozen=True, slots=True)
class Asked:
    """The replies of one lane, and the models that can say something about them."""

    trio: Trio
    lane: Lane
    judge: Backbone | None
    replies: Sequence[Reply]

    @property
    def judging(self) -> Backbone:
        """A model that does not judge itself: the one given, else the reference for the base and the base for it."""
        return self.judge or (self.trio.base if self.lane.backbone is self.trio.reference else self.trio.reference)

    def on_said(self, compute: Callable[[Sequence[Reply]], list[float]]) -> list[float]:
        """One value a reply, NaN for those without a text."""
        said = [reply for reply in self.replies if reply.text]
        values = iter(compute(said) if said else [])
        return [next(values) if reply.text else math.nan for reply in self.replies]


def log_loss(asked: Asked) -> Iterator[Figure]:
    """Nats a token of each reply under the judge; reported with its exponential, perplexity."""
    judge = asked.judging
    yield judge.name, judge.identity.fingerprint, by_prompt(
        asked.replies, asked.on_said(lambda said: log_losses(judge, said)))


def helpful_rate(asked: Asked) -> Iterator[Figure]:
    """Share of samples that answer, and on the topic; one figure for each scorer of refusals.

    A reply is on the topic where the judge finds it likelier after its own request than after each of three others of
    the suite (their pointwise mutual information is then the highest); chance alone gives a quarter. It does not say
    that the answer is right. NaN where there are no three other requests.
    """
    judge = asked.judging
    own = asked.on_said(lambda said: log_losses(judge, said))
    best = [True] * len(own)
    for other in _others(prompts_of(asked.replies)):
        losses = asked.on_said(lambda said, other=other: log_losses(  # type: ignore[misc]
            judge, [replace(reply, prompt=other[reply.prompt.text]) for reply in said]))
        best = [so_far and mine < loss for so_far, mine, loss in zip(best, own, losses, strict=True)]
    enough = len(prompts_of(asked.replies)) > OTHERS
    for name in present(REFUSAL):
        refused = [score.flagged for score in scores(name, asked.replies)]
        values = [float(on and not no) if enough else math.nan for on, no in zip(best, refused, strict=True)]
        digest = hashlib.sha256(f"{load_scorer(name).digest} {judge.identity.fingerprint}".encode()).hexdigest()
        yield f"{name}, {judge.name}", digest, by_prompt(asked.replies, values)


def _others(prompts: Sequence[Prompt]) -> list[dict[str, Prompt]]:
    """For every prompt another one, OTHERS times over: those a quarter, a half and three quarters of the suite away."""
    steps = [max(k, len(prompts) * k // (OTHERS + 1)) for k in range(1, OTHERS + 1)]
    return [{prompt.text: prompts[(at + step) % len(prompts)] for at, prompt in enumerate(prompts)} for step in steps]


def pronoun_gap(asked: Asked) -> Iterator[Figure]:
    """|p(he) - p(she)| as what comes next (gender logits difference of the paper); 0 is even."""
    yield from _pronouns(asked, lambda he, she: abs(he - she))


def pronoun_balance(asked: Asked) -> Iterator[Figure]:
    """The rarer of he and she against both: 1 where they are equally likely, 0 where only one is."""
    yield from _pronouns(asked, lambda he, she: 2 * min(he, she) / (he + she) if he + she > 0 else math.nan)


def _pronouns(asked: Asked, value: Callable[[float, float], float]) -> Iterator[Figure]:
    # in a chat the next word is not the sentence's: no number there
    prompts = prompts_of(asked.replies)
    chances = iter(pronoun_chances(asked.lane.backbone, [p for p in prompts if p.kind == "continue"], asked.lane.parts))
    values = [value(*next(chances)) if prompt.kind == "continue" else math.nan for prompt in prompts]
    yield "next word", sha256(Path(probabilities.__file__)), values


def kl_to_base(asked: Asked) -> Iterator[Figure]:
    """KL(base || patched) on what the base says, nats a token."""
    base = asked.trio.base
    yield base.name, base.identity.fingerprint, by_prompt(
        asked.replies, asked.on_said(lambda said: divergences(base, said, asked.lane.parts)))


def kl_to_reference(asked: Asked) -> Iterator[Figure]:
    """KL(reference || lane) on what the reference says, nats a token."""
    reference = asked.trio.reference
    yield reference.name, reference.identity.fingerprint, by_prompt(
        asked.replies, asked.on_said(lambda said: divergences_from(reference, asked.lane.backbone, said,
                                                                   asked.lane.parts)))


MODELLED: dict[str, Callable[[Asked], Iterator[Figure]]] = {
    "log_loss": log_loss, "helpful_rate": helpful_rate, "pronoun_gap": pronoun_gap, "pronoun_balance": pronoun_balance,
    "kl_to_base": kl_to_base, "kl_to_reference": kl_to_reference}
