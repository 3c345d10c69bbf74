"""The KL regularizer: a patch must not change the base's next-token distribution on the base's own replies to other prompts.

With companions present the target is the base *with those patches on*: trained towards the bare base, a patch would undo them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import StackPlan
from patchlab.engine.likelihood import Texts, reply_logits
from patchlab.models import Backbone
from patchlab.training.companions import StepCompanions
from patchlab.training.config import HeldTo
from patchlab.training.dataset import Dataset, MicroBatch, token_mean

CACHED = 2 << 30  # bytes of log-probabilities that are kept for batches that come again


class TargetCache:
    """Log-probabilities [N, V] of a frozen model for the reply tokens of fixed batches; kept in bfloat16 while memory lasts."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.kept: dict[tuple[int, ...], Tensor] = {}
        self.size = 0

    def of(self, texts: Texts, plan: StackPlan, *key: int) -> Tensor:
        """The log-probabilities of the texts under a plan, without gradient; `key` identifies both."""
        if key not in self.kept:
            with torch.no_grad():
                found = reply_logits(self.backbone, texts, plan).float().log_softmax(-1).to(torch.bfloat16)
            if self.size + found.numel() * 2 > CACHED:
                return found.float()
            self.kept[key] = found
            self.size += found.numel() * 2
        return self.kept[key].float()


class KLRegularizer:
    """KL(base with companions || the same with the patch), mean nats a token over a batch of the base's own replies.

    With `held_to` base the left side is the bare base whatever is present. A reply's first token has the weight `lead`: it often
    decides what another patch is for, and a mean over all tokens hardly shows it.
    """

    def __init__(self, backbone: Backbone, data: Dataset, *, held_to: HeldTo = "present", checkpointing: bool = False,
                 lead: float = 1.0) -> None:
        self.backbone, self.data, self.lead = backbone, data, lead
        self.to_present, self.checkpointing = held_to == "present", checkpointing
        self.targets = TargetCache(backbone)

    def loss(self, step: int, plan: StackPlan, companions: StepCompanions, micro: MicroBatch) -> Tensor:
        """A micro-batch's part of the term of a step; gradients flow to segments of `plan` that have them."""
        number, whole = self.data.batch(step)
        texts = whole.piece(*micro)
        if texts is None:
            return torch.zeros((), device=whole.ids.device)
        present = companions if self.to_present else StepCompanions()
        target = self.targets.of(texts, present.alone, number, *micro, *present.chosen)
        now = reply_logits(self.backbone, texts, plan, checkpointing=self.checkpointing)
        each = functional.kl_div(now.float().log_softmax(-1), target, reduction="none", log_target=True).sum(-1)
        return token_mean(each, texts, whole, self.lead)
