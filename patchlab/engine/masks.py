"""Attention masks: where a stack is decided. Only this file knows about sliding windows and positions.

A mask is additive, [B or 1, 1, queries, S + K]: S slots of the bank first, then K text keys. A slot's value is
log(strength), or the smallest number where a row has fewer than S. Text keys are causal; left padding is hidden; in sliding
layers text leaves the window but the bank never does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Mask = Tensor | dict[str, Tensor]


def smallest(dtype: torch.dtype) -> float:
    """The finite stand-in for minus infinity: a row that is all hidden then yields numbers and not NaN.

    Finite in 32 bits too, in which some families take the softmax whatever they compute in.
    """
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


class Masks:
    """The mask of one batch, made when its rows change and narrowed by a slice a step.

    `bias` [B, S] are the slots' additive values, `pads` [B] the left padding of each row, `length` the most text keys.
    """

    def __init__(self, config: Any, bias: Tensor, pads: Tensor, *, length: int) -> None:
        kinds = getattr(config, "layer_types", None) or []
        self.by_kind = "sliding_attention" in kinds
        slides = self.by_kind or (not kinds and getattr(config, "sliding_window", None))
        self.window: int | None = config.sliding_window if slides else None
        self.bias, self.length = bias, length
        self.low = smallest(bias.dtype)
        columns = torch.arange(length, device=bias.device)
        hidden = columns[None] < pads[:, None]
        text = torch.zeros_like(hidden, dtype=bias.dtype).masked_fill_(hidden, self.low)
        self.full = torch.cat([bias, text], dim=1)[:, None, None]  # [B, 1, 1, S + length]: a decode step's row
        self.sliding = self.full.clone() if self.window else self.full
        self._fixed: tuple[Tensor, Tensor] | None = None
        # whether the model's own mask would do: no slot, no padding; a row is then the base to the bit
        self.plain = bias.shape[1] == 0 and not bool(pads.any())
        # whether a decode step sees all there is: no mask then, which a step pays for in every layer
        self.open = self.plain or not (self.window or bool(pads.any()) or bool(bias.any()))

    def read(self, first: int, last: int) -> Mask:
        """The mask of the text tokens `first` to `last` (exclusive), read at once behind those before."""
        slots = self.bias.shape[1]
        query, key = torch.arange(first, last, device=self.bias.device)[:, None], torch.arange(last, device=self.bias.device)
        rows = self.full[..., :slots + last].repeat(1, 1, last - first, 1)
        rows[..., slots:].masked_fill_(key > query, self.low)
        if not self.window:
            return self._by_kind(rows, rows)
        windowed = rows.clone()
        windowed[..., slots:].masked_fill_(query - key >= self.window, self.low)
        return self._by_kind(rows, windowed)

    def decode(self, query: int) -> Mask | None:
        """The mask of the single text token at index `query`, None where nothing is hidden; called with rising `query`."""
        if self.open:
            return None
        end = self._slide(query)
        return self._by_kind(self.full[..., :end], self.sliding[..., :end])

    def fixed(self, query: int) -> Mask:
        """What `decode` says over all columns, those of later tokens hidden: in the same tensors at every query."""
        end = self._slide(query)
        kinds = (self.full, self.sliding)
        if self._fixed is None:
            self._fixed = torch.full_like(self.full, self.low), torch.full_like(self.full, self.low)
        for fixed, kind in zip(self._fixed, kinds, strict=True):
            fixed[..., :end] = kind[..., :end]
        return self._by_kind(*self._fixed)

    def _slide(self, query: int) -> int:
        """Let text leave the window as the token at `query` comes; returns where that token's columns end."""
        slots = self.bias.shape[1]
        if self.window and query >= self.window:
            self.sliding[..., slots:slots + query - self.window + 1] = self.low
        return slots + query + 1

    def _by_kind(self, full: Tensor, sliding: Tensor) -> Mask:
        if self.by_kind:
            return {"full_attention": full, "sliding_attention": sliding}
        return sliding
