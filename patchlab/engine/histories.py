"""The earlier turns of conversations: read once by the bare base, then shared by all lanes and by the turns that follow.

No token of a history attends to a patch, so its keys and values are the base's own under every stack. Rows with an adapter have
histories of their own, which the base with that adapter reads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchlab.models import Adapter
from patchlab.models.chat import shared_start

HistoryKey = tuple[Adapter | None, tuple[int, ...]]
BUDGET = 1 << 30  # bytes of keys and values that are kept for later turns


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Token ids with keys and values of them by the bare base, or with an adapter, for each layer [H, T, head width]."""

    ids: tuple[int, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    adapter: Adapter | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> HistoryKey:
        """What is equal for histories with equal keys and values."""
        return self.adapter, self.ids

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(each.numel() * each.element_size() for each in (*self.keys, *self.values))

    def first(self, length: int) -> History:
        """The first `length` tokens, sharing memory."""
        return History(self.ids[:length], tuple(each[:, :length] for each in self.keys),
                       tuple(each[:, :length] for each in self.values), self.adapter)

    def extended(self, ids: Sequence[int], keys: Sequence[Tensor], values: Sequence[Tensor]) -> History:
        """This history and the tokens that were read after it."""
        return History((*self.ids, *ids), tuple(torch.cat(pair, 1) for pair in zip(self.keys, keys, strict=True)),
                       tuple(torch.cat(pair, 1) for pair in zip(self.values, values, strict=True)), self.adapter)


class Histories:
    """A cache of histories with least-recently-used eviction by bytes, shared by the scheduler and the gates of a base."""

    def __init__(self, *, budget: int = BUDGET) -> None:
        self.budget = budget
        self._kept: OrderedDict[HistoryKey, History] = OrderedDict()
        self.read = 0  # tokens read by the base, counted for tests
        self._lock = threading.Lock()

    def longest(self, ids: Sequence[int], adapter: Adapter | None = None) -> History | None:
        """The history of as many of the first of these ids as are known with this adapter, None if that is not a single one."""
        best, length = None, 0
        with self._lock:
            for history in self._kept.values():
                if history.adapter == adapter and (shared := shared_start(history.ids, ids)) > length:
                    best, length = history, shared
            if best is None:
                return None
            self._kept.move_to_end(best.key)
        return best if length == len(best) else best.first(length)

    def grown(self, history: History, known: History | None) -> History:
        """Keep a history that was read from `known` on; one that it continues is dropped."""
        with self._lock:
            self.read += len(history) - len(known or ())
            for key in [key for key in self._kept if key == (history.adapter, history.ids[:len(key[1])])]:
                del self._kept[key]
            self._kept[history.key] = history
            size = sum(each.size for each in self._kept.values())
            while size > self.budget and len(self._kept) > 1:
                size -= self._kept.popitem(last=False)[1].size
        return history


class Past:
    """The histories of a batch's forward rows, stacked with each conversation's once.

    `histories` has one entry per forward row, None for a row without one; `frames` are the numbers of tokens at their beginning
    that belong to no exchange (a system message).
    """

    def __init__(self, histories: Sequence[History | None], frames: Sequence[int], device: torch.device) -> None:
        self.each = list({history.key: history for history in histories if history is not None}.values())
        self.length = max(map(len, self.each))
        self.lengths = torch.tensor([0 if history is None else len(history) for history in histories], device=device)
        place = torch.arange(self.length, device=device)
        self.hidden = place[None] >= self.lengths[:, None]  # [B, h]
        starts = torch.tensor(frames, device=device)
        self.exchanges = (place[None] >= starts[:, None]) & ~self.hidden  # [B, h]: in an earlier exchange
        known = {history.key: k for k, history in enumerate(self.each)}
        self._arrange([0 if history is None else known[history.key] for history in histories], device)
        self._stacked: dict[int, tuple[Tensor, Tensor]] = {}

    def _arrange(self, groups: Sequence[int], device: torch.device) -> None:
        """Sort rows into [G, most rows of a conversation]; `order` are the rows in it, padded, `back` each row's place."""
        rows = [[row for row, group in enumerate(groups) if group == k] for k in range(len(self.each))]
        self.most = max(map(len, rows))
        order = [(some + some[:1] * self.most)[:self.most] for some in rows]
        self.single = len(self.each) == 1
        self.order = torch.tensor([row for some in order for row in some], device=device)
        self.back = torch.tensor([group * self.most + rows[group].index(row) for row, group in enumerate(groups)], device=device)

    def layer(self, k: int) -> tuple[Tensor, Tensor]:
        """Keys and values [G, H, h, head width] of one layer; those of a single conversation are not copied."""
        if k not in self._stacked:
            self._stacked[k] = tuple(self._stack([getattr(one, name)[k] for one in self.each])  # type: ignore[assignment]
                                     for name in ("keys", "values"))
        return self._stacked[k]

    def _stack(self, each: Sequence[Tensor]) -> Tensor:
        if self.single:
            return each[0][None]
        block = each[0].new_zeros(len(each), each[0].shape[0], self.length, each[0].shape[2])
        for place, one in zip(block, each, strict=True):
            place[:, :one.shape[1]] = one
        return block

    def spread(self, rows: Tensor) -> Tensor:
        """Rows [B, H, n, w] by conversation: [G, H, most x n, w]."""
        if not self.single:
            rows = rows[self.order]
        groups = len(self.each)
        count, heads, n, width = rows.shape
        return rows.view(groups, count // groups, heads, n, width).transpose(1, 2).reshape(groups, heads, -1, width)

    def gathered(self, spread: Tensor, n: int) -> Tensor:
        """The inverse of `spread`: [G, H, most x n, w] -> [B, H, n, w]."""
        groups, heads, _, width = spread.shape
        rows = spread.view(groups, heads, -1, n, width).transpose(1, 2).reshape(-1, heads, n, width)
        return rows if self.single else rows[self.back]


def read_from(layers: Sequence[Any], row: int, first: int, last: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Copies of one row's keys and values in columns `first` to `last` of a batch's cache layers."""
    return (tuple(layer.block_keys[row, :, first:last].clone() for layer in layers),
            tuple(layer.block_values[row, :, first:last].clone() for layer in layers))
