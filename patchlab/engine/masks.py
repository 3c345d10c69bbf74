"""Attention masks, which apply a stack to a row. Sliding windows are handled in this module only.

A mask is additive, [B or 1, 1, queries, h + S + K]: h keys of a conversation's history, S slots of the bank, then K text keys. A
slot's value is log(strength), or the smallest number if the row does not use it. Text keys are causal, padding is masked, and in
sliding-window layers text and history leave the window but the bank does not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patchlab.engine.histories import Past

Mask = Tensor | dict[str, Tensor]


def smallest(dtype: torch.dtype) -> float:
    """A finite value instead of minus infinity, so that the softmax of a fully masked row is not NaN.

    It is finite in float32 too, since some families compute the softmax in float32 in every dtype.
    """
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


class Masks:
    """The masks of one batch, computed when its rows change; each decode step uses a slice.

    `bias` [B, S] holds the slots' additive values, `pads` [B] the left padding of each row, `length` the maximum of text keys.
    `past` are the rows' histories, whose first key has the position 0; a row's first text key has that of its history's length.
    """

    def __init__(self, config: Any, bias: Tensor, pads: Tensor, *, length: int, past: Past | None = None) -> None:
        kinds = getattr(config, "layer_types", None) or []
        self.by_kind = "sliding_attention" in kinds
        slides = self.by_kind or (not kinds and getattr(config, "sliding_window", None))
        self.window: int | None = config.sliding_window if slides else None
        self.length, self.low = length, smallest(bias.dtype)
        self.past = past.length if past else 0
        if past:
            behind = torch.zeros_like(past.hidden, dtype=bias.dtype).masked_fill_(past.hidden, self.low)
            bias = torch.cat([behind, bias], dim=1)
            self.distances = (past.lengths - pads)[:, None] - torch.arange(past.length, device=bias.device)  # from column 0
        self.bias, self.front = bias, bias.shape[1]  # the columns before the text
        columns = torch.arange(length, device=bias.device)
        hidden = columns[None] < pads[:, None]
        text = torch.zeros_like(hidden, dtype=bias.dtype).masked_fill_(hidden, self.low)
        self.full = torch.cat([bias, text], dim=1)[:, None, None]  # [B, 1, 1, h + S + length], for decode steps
        self.sliding = self.full.clone() if self.window else self.full
        self._fixed: tuple[Tensor, Tensor] | None = None
        # without slots and padding the model's own mask is used, so that a row equals the base bit for bit
        self.plain = self.front == 0 and not bool(pads.any())
        # a decode step that attends to every key needs no mask, which saves its cost in every layer
        self.open = not past and (self.plain or not (self.window or bool(pads.any()) or bool(bias.any())))

    def read(self, first: int, last: int) -> Mask:
        """The mask of the text tokens `first` to `last` (exclusive), read in one pass after the tokens before `first`."""
        query, key = torch.arange(first, last, device=self.bias.device)[:, None], torch.arange(last, device=self.bias.device)
        rows = self.full[..., :self.front + last].repeat(1, 1, last - first, 1)
        rows[..., self.front:].masked_fill_(key > query, self.low)
        if not self.window:
            return self._by_kind(rows, rows)
        windowed = rows.clone()
        windowed[..., self.front:].masked_fill_(query - key >= self.window, self.low)
        if self.past:
            windowed[..., :self.past].masked_fill_((self.distances[:, None] + query >= self.window)[:, None], self.low)
        return self._by_kind(rows, windowed)

    def decode(self, query: int) -> Mask | None:
        """The mask of the text token at index `query`, None if nothing is masked; `query` must increase from call to call."""
        if self.open:
            return None
        end = self._slide(query)
        return self._by_kind(self.full[..., :end], self.sliding[..., :end])

    def fixed(self, query: int) -> Mask:
        """The mask of `decode` over all columns, later tokens masked, in the same tensors at every call."""
        end = self._slide(query)
        kinds = (self.full, self.sliding)
        if self._fixed is None:
            self._fixed = torch.full_like(self.full, self.low), torch.full_like(self.full, self.low)
        for fixed, kind in zip(self._fixed, kinds, strict=True):
            fixed[..., :end] = kind[..., :end]
        return self._by_kind(*self._fixed)

    def _slide(self, query: int) -> int:
        """Mask the text that is outside the window of the token at `query`; returns the end of its columns."""
        if self.window and query >= self.window:
            self.sliding[..., self.front:self.front + query - self.window + 1] = self.low
        if self.window and self.past:
            self.sliding[..., :self.past].masked_fill_((self.distances + query >= self.window)[:, None, None], self.low)
        return self.front + query + 1

    def _by_kind(self, full: Tensor, sliding: Tensor) -> Mask:
        if self.by_kind:
            return {"full_attention": full, "sliding_attention": sliding}
        return sliding
