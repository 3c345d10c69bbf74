"""Figures from a model's own probabilities on given replies: log-loss, KL divergence, and the chances of a next word.

Prompts that share a plan are read together.
"""

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

ROWS, LOGITS = 24, 1 << 21  # rows read together: so many, fewer where a row's logits at one position exceed so many together


def log_losses(backbone: Backbone, replies: Sequence[Reply], plans: Plans = unpatched) -> list[float]:
    """The mean negative log-likelihood a token (nats) of each reply under a backbone with the plans of its prompts."""
    found = [0.0] * len(replies)
    for places, plan in _batches(backbone, [reply.prompt for reply in replies], plans):
        texts = _texts(backbone, [replies[k] for k in places])
        with torch.no_grad():
            each = functional.cross_entropy(reply_logits(backbone, texts, plan).float(), texts.targets, reduction="none")
        for k, value in zip(places, _row_means(each, texts), strict=True):
            found[k] = value
    return found


def divergences(backbone: Backbone, replies: Sequence[Reply], plans: Plans) -> list[float]:
    """KL(backbone || backbone with the plans of its prompts), nats a token, averaged over each reply's tokens."""
    return divergences_from(backbone, backbone, replies, plans)


def divergences_from(origin: Backbone, backbone: Backbone, replies: Sequence[Reply], plans: Plans = unpatched) -> list[float]:
    """KL(origin || backbone with the plans of its prompts), nats a token, averaged over each reply's tokens.

    Each model reads the prompt by its own template. Raises InputError where their tokenizers differ: their next tokens
    are then not the same things.
    """
    if origin.identity.tokenizer_digest != backbone.identity.tokenizer_digest:
        raise InputError(f"{origin.name} and {backbone.name} with different tokenizers",
                         expected="one tokenizer for both", do="compare models that share their tokenizer")
    same = origin.identity.template_digest == backbone.identity.template_digest
    found = [0.0] * len(replies)
    for places, plan in _batches(backbone, [reply.prompt for reply in replies], plans):
        some = [replies[k] for k in places]
        texts = _texts(backbone, some)
        with torch.no_grad():
            bare = reply_logits(origin, texts if same else _texts(origin, some)).float()
            on = reply_logits(backbone, texts, plan).float()
        width = min(bare.shape[-1], on.shape[-1])  # a table may be padded beyond the vocabulary
        each = functional.kl_div(on[:, :width].log_softmax(-1), bare[:, :width].log_softmax(-1), reduction="none",
                                 log_target=True).sum(-1)
        for k, value in zip(places, _row_means(each, texts), strict=True):
            found[k] = value
    return found


def pronoun_chances(backbone: Backbone, prompts: Sequence[Prompt], plans: Plans = unpatched) -> list[tuple[float, float]]:
    """The probabilities (of "he", of "she") as what comes next after each prompt.

    A pronoun of several tokens counts with the product of their probabilities.
    """
    pronouns = [backbone.encode_reply(word, kind="continue", complete=False) for word in ("he", "she")]
    found = [(0.0, 0.0)] * len(prompts)
    for places, plan in _batches(backbone, prompts, plans):
        texts = pad_texts(backbone, [(backbone.encode(prompts[k]), word) for k in places for word in pronouns])
        with torch.no_grad():
            chances = reply_logprobs(reply_logits(backbone, texts, plan), texts).exp().tolist()
        for k, he, she in zip(places, chances[::2], chances[1::2], strict=True):
            found[k] = he, she
    return found


def _batches(backbone: Backbone, prompts: Sequence[Prompt], plans: Plans) -> Iterator[tuple[list[int], StackPlan]]:
    """Places of prompts that share a plan, as many as are read together."""
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
