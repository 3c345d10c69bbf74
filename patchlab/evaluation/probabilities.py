"""Log-loss, KL divergence and next-word probabilities of given replies under a model. Prompts with the same plan are batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import StackPlan
from patchlab.engine.lanes import Plans, unpatched
from patchlab.engine.likelihood import Texts, encode_texts, pad_texts, reply_logits, reply_logprobs
from patchlab.errors import InputError
from patchlab.models import Backbone
from patchlab.records import Prompt, Reply

ROWS, LOGITS = 24, 1 << 21  # maximum rows of a batch, and maximum logits of a batch at one position


@torch.no_grad()
def log_losses(backbone: Backbone, replies: Sequence[Reply], plans: Plans = unpatched) -> list[float]:
    """The mean negative log-likelihood per token (nats) of each reply under a backbone with the plans of its prompts."""
    losses = [0.0] * len(replies)
    for places, plan in _batches(backbone, [reply.prompt for reply in replies], plans):
        texts = _texts(backbone, [replies[k] for k in places])
        each = functional.cross_entropy(reply_logits(backbone, texts, plan).float(), texts.targets, reduction="none")
        for k, value in zip(places, _row_means(each, texts), strict=True):
            losses[k] = value
    return losses


def divergences(backbone: Backbone, replies: Sequence[Reply], plans: Plans) -> list[float]:
    """KL(backbone || backbone with the plans of its prompts), nats per token, averaged over each reply's tokens."""
    return divergences_from(backbone, backbone, replies, plans)


@torch.no_grad()
def divergences_from(origin: Backbone, backbone: Backbone, replies: Sequence[Reply], plans: Plans = unpatched) -> list[float]:
    """KL(origin || backbone with the plans of its prompts), nats per token, averaged over each reply's tokens.

    Each model gets the prompt in its own chat template. Raises InputError if the tokenizers differ, since the distributions
    are then over different tokens.
    """
    if origin.identity.tokenizer_digest != backbone.identity.tokenizer_digest:
        raise InputError(f"{origin.name} and {backbone.name} with different tokenizers",
                         expected="one tokenizer for both", do="compare models that share their tokenizer")
    same_template = origin.identity.template_digest == backbone.identity.template_digest
    kl = [0.0] * len(replies)
    for places, plan in _batches(backbone, [reply.prompt for reply in replies], plans):
        batch = [replies[k] for k in places]
        texts = _texts(backbone, batch)
        bare = reply_logits(origin, texts if same_template else _texts(origin, batch)).float()
        patched = reply_logits(backbone, texts, plan).float()
        width = min(bare.shape[-1], patched.shape[-1])  # an embedding table may be padded beyond the vocabulary
        each = functional.kl_div(patched[:, :width].log_softmax(-1), bare[:, :width].log_softmax(-1), reduction="none",
                                 log_target=True).sum(-1)
        for k, value in zip(places, _row_means(each, texts), strict=True):
            kl[k] = value
    return kl


@torch.no_grad()
def pronoun_chances(backbone: Backbone, prompts: Sequence[Prompt], plans: Plans = unpatched) -> list[tuple[float, float]]:
    """The probabilities (of "he", of "she") as the next word of each prompt.

    The probability of a pronoun of several tokens is the product of theirs.
    """
    pronouns = [backbone.encode_reply(word, kind="continue", complete=False) for word in ("he", "she")]
    pairs = [(0.0, 0.0)] * len(prompts)
    for places, plan in _batches(backbone, prompts, plans):
        texts = pad_texts(backbone, [(backbone.encode(prompts[k]), word) for k in places for word in pronouns])
        chances = reply_logprobs(reply_logits(backbone, texts, plan), texts).exp().tolist()
        for k, he, she in zip(places, chances[::2], chances[1::2], strict=True):
            pairs[k] = he, she
    return pairs


def _batches(backbone: Backbone, prompts: Sequence[Prompt], plans: Plans) -> Iterator[tuple[list[int], StackPlan]]:
    """Batches of indices of prompts that share a plan, with that plan."""
    groups: dict[int, tuple[StackPlan, list[int]]] = {}
    for k, plan in enumerate(plans(prompts)):
        groups.setdefault(id(plan), (plan, []))[1].append(k)
    rows = max(1, min(ROWS, LOGITS // len(backbone.embeddings)))
    for plan, places in groups.values():
        for at in range(0, len(places), rows):
            yield places[at:at + rows], plan


def _texts(backbone: Backbone, replies: Sequence[Reply]) -> Texts:
    return encode_texts(backbone, [reply.prompt for reply in replies], [reply.text for reply in replies],
                        cut=[reply.stop == "length" for reply in replies])


def _row_means(each: Tensor, texts: Texts) -> list[float]:
    """The mean of the reply tokens' values [N] in each row."""
    total, count = torch.zeros(2, len(texts.ids), device=each.device)
    total.index_add_(0, texts.rows, each)
    count.index_add_(0, texts.rows, torch.ones_like(each))
    return (total / count.clamp(min=1)).tolist()
