"""The two losses of safety policy patching, each a generator of steps: SFT on safe replies, then DPO on pairs.

Arif et al., arXiv 2511.08484. Both carry the KL term of `hold`; DPO keeps an SFT term, without which it loses the
language within tens of steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import Backbone, Segment, compile_prefix
from patchlab.engine.batch import Part
from patchlab.engine.teacher import Texts, pad_texts, reply_logits, reply_logprobs
from patchlab.records import Pair, Progress
from patchlab.training.hold import Companions, Hold, Rows, Targets
from patchlab.training.prefix import PrefixTrainer, decay, precision
from patchlab.training.recipe import Recipe

SAVE_EVERY = 50


def sft_steps(trainer: PrefixTrainer, recipe: Recipe, safe: Rows, hold: Hold, companions: Companions, *,
              reference: Backbone, state: Path) -> Iterator[Progress]:
    """Learn the reference's safe replies token by token, holding everything else.

    By `recipe.distill`, a token's target is what the reference might have said there rather than the one token it drew:
    the same aim with less noise, for references that share the base's vocabulary.
    """
    start = trainer.resume(state)
    targets = Targets(reference)
    for step in range(start, recipe.sft_steps):
        with precision(trainer.backbone):
            present = companions.at(step, trainer.prefix)
            number, texts = safe.deal(step)
            logits = reply_logits(trainer.backbone, texts, present.parts)
            soft = targets.of(number, texts).exp() if recipe.distill else None
            learn = _reply_loss(logits, texts, lead=recipe.lead, soft=soft, distill=recipe.distill)
            kept = hold.loss(step, present)
        trainer.step(learn + recipe.hold * kept, rate=decay(step, recipe.sft_steps, recipe.sft_rate), stage="sft",
                     at=step)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.sft_steps:
            trainer.save(state, step=step + 1)
        yield Progress("sft", step + 1, recipe.sft_steps, f"loss {learn.item():.3f}, hold {kept.item():.4f}",
                       {"loss": learn.item(), "hold": kept.item()})


def _reply_loss(logits: Tensor, texts: Texts, *, lead: float, soft: Tensor | None, distill: float) -> Tensor:
    """The mean cross-entropy of reply tokens, with each reply's first token counting `lead` times.

    `soft` [N, V] are a teacher's probabilities, which replace the tokens themselves to the share `distill`.
    """
    each = functional.cross_entropy(logits.float(), texts.targets, reduction="none")
    if soft is not None:
        each = (1 - distill) * each + distill * functional.cross_entropy(logits.float(), soft, reduction="none")
    first = texts.rows.diff(prepend=texts.rows.new_tensor([-1])) > 0
    weights = torch.where(first, lead, 1.0)
    return (each * weights).sum() / weights.sum()


class PairBatches:
    """Pairs in fixed batches, chosen and rejected as neighbouring rows, with the anchor's log-probabilities kept."""

    def __init__(self, backbone: Backbone, pairs: Sequence[Pair], anchor: Backbone, frozen: Segment | None, *,
                 rows: int, seed: int) -> None:
        mixed = random.Random(seed).sample(list(pairs), len(pairs))
        chunks = [mixed[at:at + rows] for at in range(0, len(mixed), rows)]
        self.batches = [_neighbours(backbone, chunk) for chunk in chunks]
        # another anchor may have another tokenizer: it reads the same texts its own way
        self.read = self.batches if anchor is backbone else [_neighbours(anchor, chunk) for chunk in chunks]
        self.anchor, self.frozen, self.backbone, self.seed = anchor, frozen, backbone, seed
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def deal(self, step: int, present: tuple[Part, ...]) -> tuple[Texts, Tensor]:
        """The batch of a step and the anchor's log-probabilities [2 * rows] of its replies, computed once."""
        number = random.Random(f"{self.seed}|{step}").randrange(len(self.batches))
        parts: tuple[Part, ...] = ()
        if self.anchor is self.backbone:
            parts = (*([(self.frozen, 1.0)] if self.frozen else []), *present)
        key = (number, *(id(segment) for segment, _ in parts))
        if key not in self.kept:
            with torch.no_grad():
                self.kept[key] = reply_logprobs(reply_logits(self.anchor, self.read[number], parts), self.read[number])
        return self.batches[number], self.kept[key]


def _neighbours(backbone: Backbone, pairs: Sequence[Pair]) -> Texts:
    return pad_texts(backbone, [(backbone.encode(pair.prompt), backbone.encode_reply(text, kind=pair.prompt.kind))
                                for pair in pairs for text in (pair.chosen, pair.rejected)])


def dpo_steps(trainer: PrefixTrainer, recipe: Recipe, pairs: Sequence[Pair], anchor: Backbone, hold: Hold,
              companions: Companions, *, state: Path) -> Iterator[Progress]:
    """Prefer chosen over rejected relative to the anchor (Rafailov et al., 2023), with SFT and KL terms beside.

    The anchor is the prefix as SFT left it, the bare base, or the reference (as in the paper), by `recipe.anchor`.
    """
    frozen = None
    if recipe.anchor == "sft":
        with torch.no_grad():
            frozen = compile_prefix(trainer.backbone, trainer.prefix)
    batches = PairBatches(trainer.backbone, pairs, anchor, frozen, rows=max(1, recipe.rows // 2), seed=recipe.seed)
    trainer.fresh_moments()
    start = trainer.resume(state)
    for step in range(start, recipe.dpo_steps):
        with precision(trainer.backbone):
            present = companions.at(step, trainer.prefix)
            texts, before = batches.deal(step, present.beside)
            logits = reply_logits(trainer.backbone, texts, present.parts)
            gain = (reply_logprobs(logits, texts) - before).view(-1, 2)
            margin = gain[:, 0] - gain[:, 1]
            prefer = -functional.logsigmoid(recipe.beta * margin).mean()
            chosen = texts.rows % 2 == 0
            learn = functional.cross_entropy(logits[chosen].float(), texts.targets[chosen])
            kept = hold.loss(step, present)
        trainer.step(prefer + recipe.sft_in_dpo * learn + recipe.hold * kept,
                     rate=decay(step, recipe.dpo_steps, recipe.dpo_rate), stage="dpo", at=step)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.dpo_steps:
            trainer.save(state, step=step + 1)
        yield Progress("dpo", step + 1, recipe.dpo_steps,
                       f"loss {prefer.item():.3f}, margin {margin.mean().item():.1f}, hold {kept.item():.4f}",
                       {"loss": prefer.item(), "margin": margin.mean().item(), "hold": kept.item()})
