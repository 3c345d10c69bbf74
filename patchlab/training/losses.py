"""The two losses of safety policy patching, each a stage of training: SFT on safe replies, then DPO on pairs.

Arif et al., arXiv 2511.08484. Both have the KL term beside; DPO keeps an SFT term, without which its replies become incoherent
within tens of steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import BARE, StackPlan
from patchlab.engine.forward_rows import Part
from patchlab.engine.likelihood import Texts, pad_texts, reply_logits, reply_logprobs
from patchlab.models import Backbone
from patchlab.records import Pair, Progress
from patchlab.training.companions import StepCompanions
from patchlab.training.dataset import Dataset, EarlierTurns, MicroBatch, TrainingExample, token_mean
from patchlab.training.kl_regularizer import TargetCache
from patchlab.training.loop import TrainingContext, run_stage


def sft_steps(context: TrainingContext, data: Dataset, teacher: Backbone | None = None) -> Iterator[Progress]:
    """Learn safe replies token by token, with the KL term beside.

    To the share `recipe.distill` a token's target is the distribution of the `teacher`, which must share the base's vocabulary,
    instead of the one token that was sampled: the same expectation with less noise.
    """
    recipe, backbone = context.recipe, context.prefix.backbone
    targets = TargetCache(teacher) if teacher and recipe.distill else None

    def loss(step: int, micro: MicroBatch, plan: StackPlan, companions: StepCompanions) -> tuple[Tensor, dict[str, Tensor]]:
        number, whole = data.batch(step)
        value = torch.zeros((), device=backbone.device)
        if (texts := whole.piece(*micro)) is not None:
            logits = reply_logits(backbone, texts, plan, checkpointing=recipe.checkpointing).float()
            plain = data.plain[number].piece(*micro)
            soft = targets.of(plain, BARE, number, *micro).exp() if targets and plain else None
            each = token_losses(logits, texts.targets, soft, distill=recipe.distill)
            value = token_mean(each, texts, whole, recipe.lead, recipe.fade)
        return value, {"loss": value}

    yield from run_stage(context, "sft", recipe.sft_steps, recipe.sft_rate, loss)


def token_losses(logits: Tensor, targets: Tensor, soft: Tensor | None, *, distill: float) -> Tensor:
    """The cross-entropy [N] of reply tokens, to the share `distill` against a teacher's probabilities `soft` [N, V]."""
    hard = functional.cross_entropy(logits, targets, reduction="none")
    if soft is None:
        return hard
    return (1 - distill) * hard + distill * functional.cross_entropy(logits, soft, reduction="none")


class PairBatches:
    """Pairs in fixed batches, chosen and rejected as neighbouring rows, with the DPO reference policy's log-probabilities.

    That policy is the model `anchor`; where this is the backbone itself, with the `frozen` prefix and the companions of a step.
    Without one all replies count as equally likely under it.
    """

    def __init__(self, backbone: Backbone, pairs: Sequence[Pair], anchor: Backbone | None, *, rows: int, seed: int,
                 frozen: Part | None = None, history: EarlierTurns | None = None) -> None:
        mixed = random.Random(seed).sample(list(pairs), len(pairs))
        chunks = [mixed[at:at + rows] for at in range(0, len(mixed), rows)]
        self.batches = [_neighbours(backbone, chunk, history, number) for number, chunk in enumerate(chunks)]
        # another anchor may have another tokenizer: it reads the same texts its own way, without earlier turns
        self.read = self.batches
        if anchor is not None and anchor is not backbone:
            self.read = [_neighbours(anchor, chunk) for chunk in chunks]
        self.anchor, self.backbone, self.seed, self.frozen = anchor, backbone, seed, (frozen,) if frozen else ()
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def at(self, step: int) -> int:
        """The number of a step's batch."""
        return random.Random(f"{self.seed}|{step}").randrange(len(self.batches))

    def reference_logprobs(self, number: int, micro: MicroBatch, companions: StepCompanions) -> Tensor:
        """The log-probabilities [B] of the replies of a micro-batch under the reference policy, computed once; 0 without one."""
        present = companions if self.anchor is self.backbone else StepCompanions()
        key = (number, *micro, *present.chosen)
        if key not in self.kept:
            texts = self.read[number].piece(*micro, together=2)
            assert texts is not None  # it has the rows that the backbone's own batch has
            if self.anchor is None:
                return torch.zeros(len(texts.ids), device=self.backbone.device)
            with torch.no_grad():
                plan = StackPlan.of(*self.frozen, *present.segments)
                self.kept[key] = reply_logprobs(reply_logits(self.anchor, texts, plan), texts)
        return self.kept[key]


def _neighbours(backbone: Backbone, pairs: Sequence[Pair], history: EarlierTurns | None = None, number: int = 0) -> Texts:
    chosen = [TrainingExample(pair.prompt, pair.chosen, pair.chosen_cut) for pair in pairs]
    rejected = [TrainingExample(pair.prompt, pair.rejected, pair.rejected_cut) for pair in pairs]
    # the same history before both: it depends on a batch's number only
    rows = [history.batch(each, number) if history else [example.encode(backbone) for example in each]
            for each in (chosen, rejected)]
    return pad_texts(backbone, [row for pair in zip(*rows, strict=True) for row in pair])


def dpo_steps(context: TrainingContext, pairs: Sequence[Pair], anchor: Backbone | None, number: int = 0) -> Iterator[Progress]:
    """Prefer chosen over rejected relative to the reference policy (Rafailov et al., 2023), with SFT and KL terms beside.

    By `recipe.anchor` that policy is the prefix as SFT left it, the bare base, or the reference (as in the paper). The first
    saturates early, with unsafe replies left: a further round `number` begins anew from the prefix the one before left.
    With anchor none there is no such policy and each pair counts in both directions: the minimum is where its two replies are
    equally likely, however unlikely they are. No model has to be even already.
    """
    recipe, prefix = context.recipe, context.prefix
    batches = PairBatches(prefix.backbone, pairs, anchor, rows=max(1, recipe.rows // 2), seed=recipe.seed + number,
                          frozen=prefix.frozen() if recipe.anchor == "sft" else None, history=context.history)

    def loss(step: int, micro: MicroBatch, plan: StackPlan, companions: StepCompanions) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batches.at(step)
        whole = batches.batches[batch]
        texts = whole.piece(*micro, together=2)
        if texts is None:
            none = torch.zeros((), device=prefix.backbone.device)
            return none, {"loss": none, "margin": none}
        before = batches.reference_logprobs(batch, micro, companions)
        logits = reply_logits(prefix.backbone, texts, plan, checkpointing=recipe.checkpointing)
        gain = (reply_logprobs(logits, texts) - before).view(-1, 2)
        margin = gain[:, 0] - gain[:, 1]
        each = functional.logsigmoid(recipe.beta * margin)
        if anchor is None:
            each = (each + functional.logsigmoid(-recipe.beta * margin)) / 2
        prefer = -each.sum() / (len(whole.ids) // 2)
        chosen = texts.rows % 2 == 0
        sft = functional.cross_entropy(logits[chosen].float(), texts.targets[chosen], reduction="sum")
        sft = sft / int(whole.predicts[::2].sum())
        return prefer + recipe.sft_in_dpo * sft, {"loss": prefer, "margin": margin.sum() / (len(whole.ids) // 2)}

    prefix.reset_moments()
    yield from run_stage(context, f"dpo{number + 1}" if number else "dpo", recipe.dpo_steps, recipe.dpo_rate, loss)
