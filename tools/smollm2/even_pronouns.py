"""A base's next-token distribution with the two genders made equally likely, up to the first gendered pronoun of a reply.

The safer release learns it, and so does the patch for even pronouns: no reply has to be even already.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from patchlab.engine import BARE, StackPlan
from patchlab.engine.likelihood import Texts, reply_logits
from patchlab.models import Backbone
from patchlab.records import Progress
from patchlab.training.companions import StepCompanions
from patchlab.training.dataset import Dataset, MicroBatch
from patchlab.training.kl_regularizer import TargetCache
from patchlab.training.loop import TrainingContext, run_stage

MALE = (" he", " He", "He", " him", " his", " His", " himself")
EVEN, LEAST = 2.0, 0.005  # weight of the pair of genders alone where a pronoun is this likely at least
PRONOUN = 20.0  # weight of a place's pronouns in the mean over places
FEMALE = (" she", " She", "She", " her", " Her", " hers", " herself")


def pronoun_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """The token ids of male and of female pronouns that are one token each."""
    found = [[tokenizer.encode(word, add_special_tokens=False) for word in words] for words in (MALE, FEMALE)]
    male, female = (torch.tensor([ids[0] for ids in each if len(ids) == 1], dtype=torch.long) for each in found)
    return male, female


def evened(logprobs: Tensor, texts: Texts, ids: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N, V] with equal mass on both genders, and the pronouns' mass [N] at the places that were changed.

    Places behind a reply's first gendered pronoun stay as they are, since later ones have to agree with it.
    """
    gendered = torch.isin(texts.targets, torch.cat(ids)).long()
    before = gendered.cumsum(0) - gendered
    first = texts.rows.diff(prepend=texts.rows.new_tensor([-1])) > 0
    offset = torch.where(first, before, 0).cummax(0).values
    free = before == offset  # no gendered pronoun earlier in this reply
    masses = [logprobs[:, each].logsumexp(-1) for each in ids]
    half = torch.logaddexp(*masses) - torch.log(torch.tensor(2.0))
    changed = logprobs.clone()
    for each, mass in zip(ids, masses, strict=True):
        changed[:, each] += (half - mass)[:, None]
    return torch.where(free[:, None], changed, logprobs), torch.where(free, half.exp() * 2, torch.zeros_like(half))


def unevenness(logits: Tensor, ids: tuple[Tensor, Tensor]) -> Tensor:
    """KL of even genders to those of the logits [N, V], whatever the mass on pronouns is; its mean over the places."""
    if not len(logits):
        return logits.sum()
    genders = torch.stack([logits[:, each].logsumexp(-1) for each in ids], -1).log_softmax(-1)
    return -genders.mean() - torch.log(torch.tensor(2.0))


def evening(logits: Tensor, base: Tensor, texts: Texts, ids: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The loss that leads `logits` [N, V] to the base's log-probabilities with even genders: the KL term, and `unevenness`."""
    target, mass = evened(base, texts, ids)
    weight = 1 + PRONOUN * mass
    each = functional.kl_div(logits.log_softmax(-1), target, reduction="none", log_target=True).sum(-1)
    return (each * weight).sum() / weight.sum(), unevenness(logits[mass > LEAST], ids)


def even_steps(context: TrainingContext, data: Dataset, teacher: Backbone | None = None) -> Iterator[Progress]:
    """A first stage of training: towards the base's own distribution with even genders, whatever the mass on pronouns is.

    The KL term beside it, which holds other prompts, is the stage's own. A `teacher` is not asked.
    """
    backbone = context.prefix.backbone
    targets, ids = TargetCache(backbone), pronoun_ids(backbone.tokenizer)

    def loss(step: int, micro: MicroBatch, plan: StackPlan, companions: StepCompanions) -> tuple[Tensor, dict[str, Tensor]]:
        number, whole = data.batch(step)
        texts, plain = whole.piece(*micro), data.plain[number].piece(*micro)
        if texts is None or plain is None:
            none = torch.zeros((), device=backbone.device)
            return none, {"loss": none, "uneven": none}
        logits = reply_logits(backbone, texts, plan, checkpointing=context.recipe.checkpointing).float()
        both = evening(logits, targets.of(plain, BARE, number, *micro), plain, ids)
        value, uneven = (part * len(texts.ids) / len(whole.ids) for part in both)
        return value + EVEN * uneven, {"loss": value, "uneven": uneven}

    yield from run_stage(context, "sft", context.recipe.sft_steps, context.recipe.sft_rate, loss)
