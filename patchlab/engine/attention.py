"""Attention of the current turn of a conversation: to its patch's slots, to the history and to itself.

Slots and current turn have the proportion that they have in a single turn. What the history takes, it takes from both. A
*law* may compensate for it: with A, C and H the sums of exp(score) over the slots, the current turn and the earlier
exchanges, a query without a history gives the slots the share A / (A + C), behind one A / (A + C + H). Slots whose scores
are raised by log((C + H) / C) = softplus(log H - log C), in every layer and head and for every query, keep their share
exactly. A system message belongs to C: it is there without a history too. No law is the default (docs/method.md says why).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine.histories import Past
from patchlab.engine.masks import smallest

# the amount [..., 1] that is added to the slots' scores, from the logarithms of H and C
Law = Callable[[Tensor, Tensor], Tensor]


_law: ContextVar[Law | None] = ContextVar("law", default=None)


@contextmanager
def under(law: Law) -> Iterator[None]:
    """Use a law in this thread or task, to compare it with none."""
    token = _law.set(law)
    try:
        yield
    finally:
        _law.reset(token)


def keep_share(exchanges: Tensor, turn: Tensor) -> Tensor:
    """The amount that keeps the slots' share of attention what it would be without the earlier exchanges."""
    return functional.softplus(exchanges - turn)


def explicit(layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scaling: float,
             softcap: float | None = None, sinks: Tensor | None = None) -> Tensor:
    """Plain attention with stored scores [B, H, Q, K]; on a CPU its backward pass takes a fraction of the fused function's."""
    rows, heads, queries, width = query.shape
    shared = key.shape[1]
    grouped = (query * scaling).reshape(rows, shared, -1, width)  # queries of one key head are its rows
    scores = (grouped @ key.mT).view(rows, shared, -1, queries, key.shape[2])
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    scores = scores + mask[:, :, None]
    if sinks is not None:
        scores = torch.cat([scores, _columns(sinks, scores)], -1)
    share = scores.softmax(-1).view(rows, shared, grouped.shape[2], -1)
    return (share[..., :key.shape[2]].to(value.dtype) @ value).view(rows, heads, queries, width)


def _columns(sinks: Tensor, scores: Tensor) -> Tensor:
    """The sinks [H] as one more column of scores [B, key heads, queries of each, Q, K]."""
    return sinks.to(scores.dtype).view(1, scores.shape[1], -1, 1, 1).expand(*scores.shape[:-1], 1)


class Attention:
    """The attention function of a batch whose rows have histories, with `slots` columns of patches before each row's text.

    The mask [B, 1, Q, h + S + K] covers history, slots and the current turn in this order.
    """

    def __init__(self, past: Past, slots: int) -> None:
        self.past, self.slots, self.law = past, slots, _law.get()
        self.exchanges = past.exchanges[:, None, None, None]  # [B, 1, 1, 1, h]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scaling: float,
                 softcap: float | None = None, sinks: Tensor | None = None) -> Tensor:
        """The attention output [B, H, Q, head width]; query [B, H, Q, w], key and value [B, key heads, S + K, w]."""
        rows, heads, queries, width = query.shape
        shared = key.shape[1]
        grouped = (query * scaling).reshape(rows, shared, -1, width)  # queries of one key head are its rows
        keys, values = self.past.layer(layer)
        behind = self.past.gathered(self.past.spread(grouped) @ keys.transpose(-1, -2), grouped.shape[2])
        scores = torch.cat([behind, grouped @ key.transpose(-1, -2)], -1).float().view(rows, shared, -1, queries,
                                                                                       keys.shape[2] + key.shape[2])
        if softcap is not None:
            scores = (scores / softcap).tanh() * softcap
        scores = scores + mask[:, :, None]
        if self.law:
            scores = self._weighed(scores, self.law, sinks)
        if sinks is not None:
            scores = torch.cat([scores, _columns(sinks, scores)], -1)
        share = scores.softmax(-1).to(value.dtype).view(rows, shared, grouped.shape[2], -1)
        h, k = keys.shape[2], key.shape[2]
        past = self.past.gathered(self.past.spread(share[..., :h]) @ values, grouped.shape[2])
        return (share[..., h:h + k] @ value + past).view(rows, heads, queries, width)

    def _weighed(self, scores: Tensor, law: Law, sinks: Tensor | None) -> Tensor:
        """Scores with those of the slots raised by a law; sinks count as a part of the current turn."""
        h, own = self.past.length, self.past.length + self.slots
        behind, slots, turn = scores[..., :h], scores[..., h:own], scores[..., own:]
        low = smallest(torch.float32)
        exchanges = behind.masked_fill(~self.exchanges, low).logsumexp(-1, keepdim=True)
        others = [] if sinks is None else [_columns(sinks, scores)]
        now = torch.cat([behind.masked_fill(self.exchanges, low), turn, *others], -1).logsumexp(-1, keepdim=True)
        return torch.cat([behind, slots + law(exchanges, now), turn], -1)
