"""Figures that come from a model's own probabilities: perplexity of replies and distance between lanes.

Where gates decide which parts are on, prompts for which they decide alike are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch.nn import functional

from patchlab.engine.forward_rows import Parts
from patchlab.engine.gates import Gated, Wanted, resolved
from patchlab.engine.likelihood import encode_texts, pad_texts, reply_logits, reply_logprobs
from patchlab.errors import InputError
from patchlab.models import Backbone
from patchlab.records import Prompt, Reply

ROWS = 24

Value = TypeVar("Value")


def log_losses(backbone: Backbone, replies: Sequence[Reply], parts: Wanted = ()) -> list[float]:
    """The mean negative log-likelihood a token (nats) of each reply under a backbone with these parts on."""
    return _alike(backbone, [reply.prompt for reply in replies], parts, lambda places, own: _log_losses(
        backbone, [replies[k] for k in places], own))


def _log_losses(backbone: Backbone, replies: Sequence[Reply], parts: Parts) -> list[float]:
    found: list[float] = []
    for at in range(0, len(replies), ROWS):
        some = replies[at:at + ROWS]
        texts = encode_texts(backbone, [r.prompt for r in some], [r.text for r in some])
        with torch.no_grad():
            each = functional.cross_entropy(reply_logits(backbone, texts, parts).float(), texts.targets, reduction="none")
        found += _row_means(each, texts.rows, len(some))
    return found


def divergences(backbone: Backbone, replies: Sequence[Reply], parts: Wanted) -> list[float]:
    """KL(backbone || backbone with parts), nats a token, averaged over each reply's tokens."""
    return divergences_from(backbone, backbone, replies, parts)


def divergences_from(anchor: Backbone, backbone: Backbone, replies: Sequence[Reply], parts: Wanted) -> list[float]:
    """KL(anchor || backbone with parts), nats a token, averaged over each reply's tokens.

    Each model reads the prompt by its own template. Raises InputError where their tokenizers differ: their next tokens
    are then not the same things.
    """
    if anchor.identity.tokenizer_digest != backbone.identity.tokenizer_digest:
        raise InputError(f"{anchor.name} and {backbone.name} with different tokenizers",
                         expected="one tokenizer for both", do="compare models that share their tokenizer")
    return _alike(backbone, [reply.prompt for reply in replies], parts, lambda places, own: _divergences(
        anchor, backbone, [replies[k] for k in places], own))


def _divergences(anchor: Backbone, backbone: Backbone, replies: Sequence[Reply], parts: Parts) -> list[float]:
    found: list[float] = []
    for at in range(0, len(replies), ROWS):
        some = replies[at:at + ROWS]
        prompts, said = [r.prompt for r in some], [r.text for r in some]
        texts = encode_texts(backbone, prompts, said)
        same = anchor.identity.template_digest == backbone.identity.template_digest
        with torch.no_grad():
            bare = reply_logits(anchor, texts if same else encode_texts(anchor, prompts, said)).float()
            on = reply_logits(backbone, texts, parts).float()
        width = min(bare.shape[-1], on.shape[-1])  # a table may be padded beyond the vocabulary
        each = functional.kl_div(on[:, :width].log_softmax(-1), bare[:, :width].log_softmax(-1), reduction="none",
                                 log_target=True).sum(-1)
        found += _row_means(each, texts.rows, len(some))
    return found


def pronoun_chances(backbone: Backbone, prompts: Sequence[Prompt], parts: Wanted = ()) -> list[tuple[float, float]]:
    """The probabilities (of "he", of "she") as what comes next after each prompt.

    A pronoun of several tokens counts with the product of their probabilities.
    """
    return _alike(backbone, prompts, parts, lambda places, own: _pronoun_chances(
        backbone, [prompts[k] for k in places], own))


def _pronoun_chances(backbone: Backbone, prompts: Sequence[Prompt], parts: Parts) -> list[tuple[float, float]]:
    pronouns = [_word(backbone, word) for word in ("he", "she")]
    found: list[tuple[float, float]] = []
    for at in range(0, len(prompts), ROWS // 2):
        ids = [backbone.encode(prompt) for prompt in prompts[at:at + ROWS // 2]]
        texts = pad_texts(backbone, [(each, word) for each in ids for word in pronouns])
        with torch.no_grad():
            chances = reply_logprobs(reply_logits(backbone, texts, parts), texts).exp().tolist()
        found += list(zip(chances[::2], chances[1::2], strict=True))
    return found


def _alike(backbone: Backbone, prompts: Sequence[Prompt], asked: Wanted,
           compute: Callable[[Sequence[int], Parts], list[Value]]) -> list[Value]:
    """What `compute` gives for places of prompts and the parts that are on for all of these, in the order of the prompts."""
    if not isinstance(asked, Gated):
        return compute(range(len(prompts)), asked)
    groups: list[tuple[Parts, list[int]]] = []
    for k, parts in enumerate(resolved(backbone, [(backbone.encode(prompt), asked) for prompt in prompts])):
        own = next((places for other, places in groups if other == parts), None)
        if own is None:
            groups.append((parts, own := []))
        own.append(k)
    found = {k: value for parts, places in groups for k, value in zip(places, compute(places, parts), strict=True)}
    return [found[k] for k in range(len(prompts))]


def _word(backbone: Backbone, word: str) -> list[int]:
    return backbone.encode_reply(word, kind="continue", complete=False)


def _row_means(each: torch.Tensor, rows: torch.Tensor, n: int) -> list[float]:
    total = torch.zeros(n, device=each.device).index_add(0, rows, each)
    count = torch.zeros(n, device=each.device).index_add(0, rows, torch.ones_like(each))
    return (total / count.clamp(min=1)).tolist()
