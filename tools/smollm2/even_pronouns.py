"""A base's next-token distribution with the two genders made equally likely, up to the first gendered pronoun of a reply."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from patchlab.engine.likelihood import Texts

MALE = (" he", " He", "He", " him", " his", " His", " himself")
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
