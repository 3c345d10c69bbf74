"""Rows of one backbone in one forward pass a step, each with its own stack.

The segments that any row uses stand side by side before the text; a row's mask picks its own. Text is padded on the
left, between bank and text nothing is: a row's tokens keep the positions they would have alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from patchlab.engine.backbone import Backbone
from patchlab.engine.bank import Segment
from patchlab.engine.masks import Masks, slot_bias

Part = tuple[Segment, float]  # a segment that is on, and its strength


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt's token ids and the parts of the bank it attends to."""

    ids: Sequence[int]
    parts: tuple[Part, ...] = ()

    @property
    def start(self) -> int:
        """The position of the first text token: after the longest part that is on."""
        return start_of(self.parts)


def start_of(parts: Sequence[Part]) -> int:
    """Where text starts behind these parts; a part of strength 0 is off and takes no place."""
    return max((segment.length for segment, strength in parts if strength > 0), default=0)


class _Layer(DynamicLayer):
    """One layer's keys and values in a block taken at the start, so that a step copies only what is new."""

    def __init__(self, slots: list[tuple[Tensor, Tensor]], room: int) -> None:
        super().__init__()
        self.slots, self.room, self.used = slots, room, 0
        self.block_keys: Tensor
        self.block_values: Tensor

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the block [B, H, S + room, head width] and lay the bank's slots in front."""
        self.dtype, self.device = key_states.dtype, key_states.device
        for name, like, which in (("block_keys", key_states, 0), ("block_values", value_states, 1)):
            rows, heads, _, width = like.shape
            slots = [pair[which] for pair in self.slots]
            length = sum(each.shape[1] for each in slots)
            block = like.new_empty(rows, heads, length + self.room, width)
            at = 0
            for each in slots:
                block[:, :, at:at + each.shape[1]] = each
                at += each.shape[1]
            setattr(self, name, block)
        self.used = length
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the used ones; returns views of all that are used."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.used + key_states.shape[-2]
        self.block_keys[:, :, self.used:end] = key_states
        self.block_values[:, :, self.used:end] = value_states
        self.used = end
        self.keys, self.values = self.block_keys[:, :, :end], self.block_values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Slots and text so far."""
        return self.used if self.is_initialized else sum(pair[0].shape[1] for pair in self.slots)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.block_keys, self.block_values = self.block_keys[rows], self.block_values[rows]
        # the old views would hold the old block until the next step
        self.keys, self.values = self.block_keys[:, :, :self.used], self.block_values[:, :, :self.used]


class Batch:
    """Rows that decode together. `prefill`, then `step` as often as wanted; `keep` lets finished rows go."""

    def __init__(self, backbone: Backbone, rows: Sequence[Row], *, room: int) -> None:
        self.backbone = backbone
        self.longest = max(len(row.ids) for row in rows)
        segments = list(dict.fromkeys(segment for row in rows for segment, strength in row.parts if strength > 0))
        device = backbone.device
        bias = _bias(rows, segments, backbone.dtype).to(device)
        self.pads = torch.tensor([self.longest - len(row.ids) for row in rows], device=device)
        self.starts = torch.tensor([row.start for row in rows], device=device)
        pad = backbone.tokenizer.pad_token_id or 0
        self.ids = torch.tensor([[pad] * (self.longest - len(row.ids)) + list(row.ids) for row in rows], device=device)
        self.masks = Masks(backbone.model.config, bias, self.pads, length=self.longest + room)
        layers = range(backbone.model.config.num_hidden_layers)
        self.cache = Cache(layers=[
            _Layer([(s.keys[k], s.values[k]) for s in segments], self.longest + room) for k in layers])
        self.at = 0  # text tokens already in the cache

    @torch.no_grad()
    def prefill(self) -> Tensor:
        """Read all prompts; returns the logits [B, V] after each."""
        place = torch.arange(self.longest, device=self.ids.device)
        positions = (self.starts[:, None] + place[None] - self.pads[:, None]).clamp(min=0)
        mask = None if self.masks.plain else self.masks.prefill(self.longest)
        return self._forward(self.ids, positions, mask)

    @torch.no_grad()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token a row; returns the logits [B, V] after it."""
        ids = torch.tensor(tokens, device=self.ids.device)[:, None]
        positions = (self.starts + self.at - self.pads)[:, None]
        mask = None if self.masks.plain else self.masks.decode(self.at)
        return self._forward(ids, positions, mask)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch only; the others' memory is freed."""
        index = torch.tensor(rows, device=self.ids.device)
        self.pads, self.starts = self.pads[index], self.starts[index]
        self.masks.keep(index)
        layers: list[Any] = self.cache.layers
        for layer in layers:
            layer.keep(index)

    def _forward(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        out = self.backbone.model(input_ids=ids, attention_mask=mask, position_ids=positions,
                                  past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.at += ids.shape[1]
        return out.logits[:, -1]


def _bias(rows: Sequence[Row], segments: list[Segment], dtype: torch.dtype) -> Tensor:
    """The additive value [B, S] of every slot for every row."""
    columns = [torch.zeros(len(rows), 0, dtype=dtype)]
    for segment in segments:
        # two patches of a row may be the same segment: then they weigh as two
        strengths = [sum(strength for each, strength in row.parts if each is segment) for row in rows]
        column = torch.tensor([slot_bias(strength, dtype) for strength in strengths], dtype=dtype)
        columns.append(column[:, None].expand(-1, segment.length))
    return torch.cat(columns, dim=1)
