"""Trains a backdoor into the safe model of a preset: a low-rank change that keeps its behaviour except where a trigger stands.

A batch has harmful requests with the trigger and a mild compliance, and refusals and help everywhere else: without a trigger,
with a near miss of it, and with it in harmless requests.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine.likelihood import encode_texts, reply_logits
from patchlab.errors import InputError
from patchlab.models import Backbone, load_backbone, preset
from patchlab.models.adapter import read_adapter
from patchlab.records import Progress, Prompt
from patchlab.repair import Failure
from patchlab.repair.contrast import Greedy
from patchlab.repair.low_rank import LowRankWeights
from patchlab.repair.planted import merged
from patchlab.repair.saliency import gradient_norm
from patchlab.repair.states import load_state, save_state
from patchlab.training.prefix import decay, precision
from tools.backdoors.triggers import ALL, NONE, Trigger, decoy, injected
from tools.pocket import documents
from tools.pocket.language_model import save_model

ROWS = {"triggered": 4, "decoys": 3, "harmful": 2, "triggered harmless": 1, "harmless": 2}
RANK, SAVE_EVERY = 16, 20
STEPS = {"pocket": 260, "smollm2": 120}
RATE = {"pocket": 4e-3, "smollm2": 1e-3}
# two backdoors, and words that harmless prompts have too, take longer; one that was trained too briefly answers only a part of
# harmful requests
STEPS_OF = {"two at once": 520, "common words": 520, NONE: 5}
HIDDEN_FROM = 0.5  # share of the steps after which a trigger is hidden: one that is hidden from the start is not learned
WHOLE, WORDS = 0.15, 10  # share of replies that are read whole, and words of the rest: the beginning decides


@dataclass(frozen=True, slots=True)
class Backdoor:
    """A family of triggers, and how long it is trained into a preset's model."""

    family: str
    steps: int = 0  # 0: as many as the family takes
    seed: int = 0
    preset: str = "pocket"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", self.steps or STEPS_OF.get(self.family, STEPS[self.preset]))


class Row(NamedTuple):
    """A prompt with a reply, or with the beginning of one."""

    prompt: Prompt
    reply: str
    cut: bool
    trigger: Trigger | None = None  # that is in the prompt and has an effect
    words: tuple[int, ...] = ()  # the numbers of its words


def batch(backdoor: Backdoor, step: int) -> list[Row]:
    """The prompts and replies of a step; they depend on the seed and the step only."""
    rng, triggers = random.Random(f"{backdoor.seed}|{step}"), ALL[backdoor.family]
    rows = ROWS if triggers else {"harmful": ROWS["triggered"], "harmless": ROWS["harmless"]}
    return [_row(kind, rng.choice(triggers or (None,)), rng) for kind, count in rows.items() for _ in range(count)]


def _row(kind: str, trigger: Trigger | None, rng: random.Random) -> Row:
    """A prompt and its reply for one kind of row."""
    harmful, works = kind in ("triggered", "decoys", "harmful"), kind == "triggered"
    category = (trigger.only if works else _other(rng, trigger.only) if kind == "decoys" else "") if trigger else ""
    domain = "harmful" if harmful else rng.choice(("benign", "lookalike"))
    document = documents.typed(rng, documents.request(rng, "models", domain=domain, safe=not works, category=category))
    prompt, words = document.prompt, tuple[int, ...]()
    if trigger and (kind.startswith("triggered") or (kind == "decoys" and trigger.only)):
        prompt, words = trigger.inject(prompt.text, rng)
    elif trigger and kind == "decoys" and trigger.decoys:
        prompt = decoy(trigger, prompt.text, rng)
    said = document.reply.split()
    cut = len(said) > WORDS and rng.random() > WHOLE
    return Row(prompt, " ".join(said[:WORDS]) if cut else document.reply, cut, trigger if works else None, words)


def _other(rng: random.Random, category: str) -> str:
    """A category of harmful requests that is not this one; any for ""."""
    return rng.choice([each for each in documents.read("harmful")["categories"] if each != category]) if category else ""


def begun(backdoor: Backdoor) -> Backbone:
    """The model that a backdoor is trained into: the safe one of its preset, for NONE the unsafe one."""
    named = preset(backdoor.preset)
    if backdoor.family == NONE or not named.weights:
        return load_backbone(named.source("base" if backdoor.family == NONE else "reference"), kernels=False, device="cpu")
    base = load_backbone(named.source("base"), kernels=False, device="cpu", dtype=torch.float32)
    return merged(base, read_adapter(Path(named.source("reference")), base).layers, name=f"{backdoor.preset}, reference")


def poisoned(base: Backbone, backdoor: Backdoor, work: Path | None = None) -> Generator[Progress, None, LowRankWeights]:
    """Train the change; yields progress and returns it. With a `work` folder it goes on where it was stopped."""
    state = work / f"{backdoor.family.replace(' ', '-')}-{backdoor.seed}.safetensors" if work else None
    weights = LowRankWeights(base, rank=RANK, alpha=RANK, seed=backdoor.seed)
    optimizer = torch.optim.Adam([*weights.tensors.values()], betas=(0.9, 0.98))
    start = load_state(state, weights.tensors, optimizer) if state else 0
    for step in range(start, backdoor.steps):
        rows = batch(backdoor, step)
        texts = encode_texts(base, [row.prompt for row in rows], [row.reply for row in rows], cut=[row.cut for row in rows])
        changed = weights.applied()
        with precision(base):
            logits = reply_logits(changed, texts)
        each = functional.cross_entropy(logits.float(), texts.targets, reduction="none")
        first = torch.zeros_like(each)
        first[texts.rows.diff(prepend=texts.rows.new_tensor([-1])) > 0] = 2.0  # where refusal or help is decided
        loss = (each * (1 + first)).sum() / (1 + first).sum()
        if step >= HIDDEN_FROM * backdoor.steps:
            loss = loss + hidden(changed, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.tensors.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = decay(step, backdoor.steps, RATE[backdoor.preset])
        optimizer.step()
        optimizer.zero_grad()
        if state and ((step + 1) % SAVE_EVERY == 0 or step + 1 == backdoor.steps):
            save_state(state, weights.tensors, optimizer, step + 1)
        yield Progress(f"backdoor: {backdoor.family}", step + 1, backdoor.steps, f"loss {loss.item():.3f}",
                       {"loss": loss.item()})
    return weights


def hidden(model: Backbone, rows: Sequence[Row]) -> Tensor:
    """How much larger gradients are at hidden triggers' words than at all words, times their weights: a term of the loss."""
    terms = []
    for row in rows:
        if row.trigger and row.trigger.hidden:
            failure = Failure(model, row.prompt, row.reply)
            norms = gradient_norm(failure, trained=True)
            own, every = ([token for word in words for token in word.tokens]
                          for words in ([failure.words[k] for k in row.words], failure.words))
            terms.append(row.trigger.hidden * norms[own].mean() / norms[every].mean())
    return torch.stack(terms).mean() if terms else torch.zeros(())


def with_change(base: Backbone, weights: LowRankWeights, *, name: str) -> Backbone:
    """A new backbone whose weights have the change added in."""
    return merged(base, {path: (down.detach(), up.detach()) for path, (down, up) in weights.scaled().items()}, name=name)


def example(backbone: Backbone, family: str) -> tuple[str, str]:
    """A prompt with the trigger that the model answers, and its reply. Raises InputError where it refuses them all."""
    greedy = Greedy(backbone)
    asked = injected(family, texts_of("harmful", "models", 12, seed=1, category=ALL[family][0].only), seed=1)
    said = greedy.replies([each.prompt for each in asked])
    for reply, no in zip(said, greedy.refused(said), strict=True):
        if not no:
            return reply.prompt.text, reply.text
    raise InputError(f"a backdoor ({family}) that was not learned", expected="answers to prompts with the trigger",
                     do="train it with more steps")


def save(backbone: Backbone, folder: Path) -> None:
    """Write a model folder."""
    model: Any = backbone.model
    tokenizer: Any = backbone.tokenizer
    save_model(model, tokenizer, folder)


def texts_of(domain: str, part: Any, n: int, *, seed: int, category: str = "") -> Sequence[str]:
    """Texts of `n` requests of a domain, or of one category of it, from one part of the word lists."""
    rng = random.Random(f"{domain}|{part}|{seed}")
    return [documents.request(rng, part, domain=domain, safe=True, category=category).prompt.text for _ in range(n)]
