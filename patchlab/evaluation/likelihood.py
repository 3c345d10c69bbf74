"""Figures that come from a model's own probabilities: perplexity of replies and distance between lanes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from patchlab.engine import Backbone
from patchlab.engine.batch import Part
from patchlab.engine.teacher import encode_texts, reply_logits
from patchlab.records import Reply

ROWS = 24


def log_losses(backbone: Backbone, replies: Sequence[Reply], parts: Sequence[Part] = ()) -> list[float]:
    """The mean negative log-likelihood a token (nats) of each reply under a backbone with these parts on."""
    found: list[float] = []
    for at in range(0, len(replies), ROWS):
        some = replies[at:at + ROWS]
        texts = encode_texts(backbone, [r.prompt for r in some], [r.text for r in some])
        with torch.no_grad():
            each = functional.cross_entropy(reply_logits(backbone, texts, parts).float(), texts.targets, reduction="none")
        found += _row_means(each, texts.rows, len(some))
    return found


def divergences(backbone: Backbone, replies: Sequence[Reply], parts: Sequence[Part]) -> list[float]:
    """KL(backbone || backbone with parts), nats a token, averaged over each reply's tokens."""
    found: list[float] = []
    for at in range(0, len(replies), ROWS):
        some = replies[at:at + ROWS]
        texts = encode_texts(backbone, [r.prompt for r in some], [r.text for r in some])
        with torch.no_grad():
            bare = reply_logits(backbone, texts).float().log_softmax(-1)
            on = reply_logits(backbone, texts, parts).float().log_softmax(-1)
        each = functional.kl_div(on, bare, reduction="none", log_target=True).sum(-1)
        found += _row_means(each, texts.rows, len(some))
    return found


def _row_means(each: torch.Tensor, rows: torch.Tensor, n: int) -> list[float]:
    total = torch.zeros(n, device=each.device).index_add(0, rows, each)
    count = torch.zeros(n, device=each.device).index_add(0, rows, torch.ones_like(each))
    return (total / count.clamp(min=1)).tolist()
