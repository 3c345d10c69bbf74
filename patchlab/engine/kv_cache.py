"""Keys and values of a batch in one block per layer: first each row's slots of the bank, then its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

from patchlab.engine.segments import Segment

Run = tuple[tuple[Segment, ...], int]  # segments, and the number of consecutive rows that use them


class RowLayer(DynamicLayer):
    """One layer's keys and values in a preallocated block, so that a step copies only the new ones."""

    def __init__(self, runs: Sequence[Run], layer: int, slots: int, columns: int) -> None:
        super().__init__()
        self.runs, self.layer, self.slots, self.columns = runs, layer, slots, columns
        self.used = slots
        self.column: Tensor | None = None
        self.block_keys: Tensor
        self.block_values: Tensor

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the blocks [B, H, S + columns, head width] and copy each row's slots into them."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.block_keys, self.block_values = self._block(key_states, "keys"), self._block(value_states, "values")
        self.is_initialized = True

    def _block(self, like: Tensor, which: str) -> Tensor:
        rows = sum(count for _, count in self.runs)
        block = like.new_empty(rows, like.shape[1], self.slots + self.columns, like.shape[3])
        row = 0
        for segments, count in self.runs:
            mine, at = block[row:row + count], 0
            for segment in segments:
                mine[:, :, at:at + segment.length] = getattr(segment, which)[self.layer]
                at += segment.length
            mine[:, :, at:self.slots] = 0  # masked, but must be finite: 0 x NaN = NaN in the attention sum
            row += count
        return block

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append new keys and values; returns views of all used columns, after `fix` of all columns."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.column is not None:
            self.block_keys.index_copy_(2, self.column, key_states)
            self.block_values.index_copy_(2, self.column, value_states)
            return self.block_keys, self.block_values
        end = self.used + key_states.shape[-2]
        self.block_keys[:, :, self.used:end] = key_states
        self.block_values[:, :, self.used:end] = value_states
        self.used = end
        self.keys, self.values = self.block_keys[:, :, :end], self.block_values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """The number of used columns, slots included."""
        return self.used

    def fix(self, column: Tensor) -> None:
        """Let `update` write one token at `column` [1] and return whole blocks; the caller then increments `used`."""
        self.column = column
        self.block_keys[:, :, self.used:] = 0  # masked, but must be finite
        self.block_values[:, :, self.used:] = 0

    def take(self, pieces: Sequence[tuple[RowLayer, list[int], int]], at: int) -> None:
        """Copy rows of other layers: for each (layer, rows, width) its last `width` text columns, all ending at column `at`."""
        first = pieces[0][0]
        self.dtype, self.device = first.dtype, first.device
        for name, which in (("block_keys", "keys"), ("block_values", "values")):
            block = self._block(getattr(first, name), which)
            row = 0
            for layer, places, width in pieces:
                source = getattr(layer, name)[:, :, layer.used - width:layer.used]
                mine = block[row:row + len(places), :, self.slots:self.slots + at]
                mine[:, :, :at - width] = 0  # masked, but must be finite
                mine[:, :, at - width:] = source if len(places) == len(source) else source[places]
                row += len(places)
            setattr(self, name, block)
        self.used = self.slots + at
        self.is_initialized = True
