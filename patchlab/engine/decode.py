"""Rows of one backbone in one forward pass a step, each with its own stack; rows leave, and rows of another batch join.

A row's columns are the slots of its own segments side by side, then its text. Slots are padded at their end and text at its
beginning, so what lies between is hidden; positions do not count it: a row's tokens keep those they would have alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from patchlab.engine.cuda_graph import PATIENCE, StaticStep
from patchlab.engine.forward_rows import Part, Parts, Voice, blended, start_of, voices
from patchlab.engine.masks import Masks, smallest
from patchlab.engine.segments import Segment
from patchlab.models.backbone import Backbone

__all__ = ["Batch", "Part", "Row", "start_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt's token ids and the parts of the bank it attends to."""

    ids: Sequence[int]
    parts: Parts = ()


Run = tuple[tuple[Segment, ...], int]  # segments, and how many rows one below the other have them


class _Layer(DynamicLayer):
    """One layer's keys and values in a block taken at once, so that a step copies only what is new."""

    def __init__(self, runs: Sequence[Run], layer: int, slots: int, columns: int) -> None:
        super().__init__()
        self.runs, self.layer, self.slots, self.columns = runs, layer, slots, columns
        self.used = slots
        self.column: Tensor | None = None
        self.block_keys: Tensor
        self.block_values: Tensor

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the blocks [B, H, S + columns, head width] and lay each row's slots in front."""
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
            mine[:, :, at:self.slots] = 0  # hidden, but a number: what is not one would spoil the sum that hides it
            row += count
        return block

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the used ones; returns views of all that are used, once fixed of all there are."""
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
        """Slots and text so far."""
        return self.used

    def fix(self, column: Tensor) -> None:
        """From now on write one token at `column` [1] and give out whole blocks; `used` is then the caller's to move."""
        self.column = column
        self.block_keys[:, :, self.used:] = 0  # hidden, as above
        self.block_values[:, :, self.used:] = 0

    def take(self, pieces: Sequence[tuple[_Layer, list[int], int]], at: int) -> None:
        """Begin with rows of other layers below each other: of each its last columns of text, all ending at column `at`."""
        first = pieces[0][0]
        self.dtype, self.device = first.dtype, first.device
        for name, which in (("block_keys", "keys"), ("block_values", "values")):
            block = self._block(getattr(first, name), which)
            row = 0
            for layer, places, width in pieces:
                source = getattr(layer, name)[:, :, layer.used - width:layer.used]
                mine = block[row:row + len(places), :, self.slots:self.slots + at]
                mine[:, :, :at - width] = 0  # hidden, as above
                mine[:, :, at - width:] = source if len(places) == len(source) else source[places]
                row += len(places)
            setattr(self, name, block)
        self.used = self.slots + at
        self.is_initialized = True


class Batch:
    """Rows that decode together: `prefill`, then `step` as often as wanted; `keep` lets rows go, `join` brings more in.

    `room` is how many tokens a row is expected to gain; where it gains more, room is made for as many again.
    """

    def __init__(self, backbone: Backbone, rows: Sequence[Row], *, room: int) -> None:
        self.backbone, self.room = backbone, room
        each = [voices(row.parts) for row in rows]
        self.counts = [len(some) for some in each]  # the voices of each row
        self.voices = [voice for some in each for voice in some]
        ids = [list(row.ids) for row, count in zip(rows, self.counts, strict=True) for _ in range(count)]
        longest = max(len(one) for one in ids)
        self.pads = [longest - len(one) for one in ids]
        pad = backbone.tokenizer.pad_token_id or 0
        self.ids = torch.tensor([[pad] * (longest - len(one)) + one for one in ids], device=backbone.device)
        self.at = 0  # columns of text already in the cache
        self.static: StaticStep | None
        self._settle(longest + room)
        self.cache = Cache(layers=[self._layer(k) for k in range(backbone.model.config.num_hidden_layers)])

    def __len__(self) -> int:
        return len(self.counts)

    @torch.inference_mode()
    def prefill(self) -> Tensor:
        """Read all prompts; returns the logits [B, V] after each."""
        longest = self.ids.shape[1]
        place = torch.arange(longest, device=self.ids.device)
        positions = (self.offsets[:, None] + place[None]).clamp(min=0)
        mask = None if self.masks.plain else self.masks.prefill(longest)
        return self._forward(self.ids, positions, mask)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token a row; returns the logits [B, V] after it, which the next step may overwrite."""
        if self.at == self.masks.length:
            self._lay([(self, range(len(self)))], room=self.room)
        said = [token for token, count in zip(tokens, self.counts, strict=True) for _ in range(count)]
        ids = torch.tensor(said, device=self.offsets.device)[:, None]
        self.still += 1
        if not self.backbone.static or self.still < PATIENCE:
            return self._forward(ids, (self.offsets + self.at)[:, None], self.masks.decode(self.at))
        if self.static is None:
            self.static = StaticStep(self)
        return self._taken(self.static(self, ids), 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch only; the others' memory is freed, with slots and columns none uses."""
        self._lay([(self, rows)], room=self.masks.length - self.at)

    def join(self, other: Batch) -> None:
        """Go on with the rows of both batches, this one's first; the other is not to be used again."""
        self._lay([(each, range(len(each))) for each in (self, other)],
                  room=max(each.masks.length - each.at for each in (self, other)))

    def _lay(self, pieces: Sequence[tuple[Batch, Sequence[int]]], *, room: int) -> None:
        """Lay rows of batches into new blocks, each row's text ending at one column, the longest without padding."""
        places = [[place for row in rows for place in batch._places(row)] for batch, rows in pieces]
        widths = [max(batch.at - batch.pads[k] for k in some) for (batch, _), some in zip(pieces, places, strict=True)]
        at = max(widths)
        self.counts, self.voices, self.pads = (
            [batch.counts[row] for batch, rows in pieces for row in rows],
            [batch.voices[k] for (batch, _), some in zip(pieces, places, strict=True) for k in some],
            [batch.pads[k] + at - batch.at for (batch, _), some in zip(pieces, places, strict=True) for k in some])
        self.at = at
        self._settle(at + room)
        layers: list[Any] = self.cache.layers
        for k in range(len(layers)):  # one after the other, so that old and new are never held both
            new = self._layer(k)
            old: list[Any] = [batch.cache.layers[k] for batch, _ in pieces]
            new.take(list(zip(old, places, widths, strict=True)), at)
            layers[k] = new
            del old

    def _settle(self, columns: int) -> None:
        """Masks, positions and blends of the voices at hand, for so many columns of text."""
        self.still = 0  # steps since the rows were laid
        self.static = None
        device, dtype = self.backbone.device, self.backbone.dtype
        stacks = groupby(tuple(segment for segment, _ in voice.parts) for voice in self.voices)
        self.runs = [(segments, len(list(same))) for segments, same in stacks]
        pads = torch.tensor(self.pads, device=device)
        self.offsets = torch.tensor([voice.start for voice in self.voices], device=device) - pads
        bias = _bias(self.voices, max(voice.slots for voice in self.voices), dtype).to(device)
        self.masks = Masks(self.backbone.model.config, bias, pads, length=columns)
        self.blends = [self._blend(count) for count in sorted(set(self.counts)) if count > 1]
        self.firsts = torch.tensor([self._places(row)[0] for row in range(len(self))], device=device)

    def _layer(self, k: int) -> _Layer:
        return _Layer(self.runs, k, self.masks.bias.shape[1], self.masks.length)

    def _blend(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The rows [n] of so many voices, their voices' places [count, n] and weights [count, n, 1], and which average [n, 1]."""
        rows = [row for row in range(len(self)) if self.counts[row] == count]
        places = torch.tensor([list(self._places(row)) for row in rows], device=self.backbone.device).T
        weights = torch.tensor([[self.voices[place].weight for place in self._places(row)] for row in rows]).T
        mean = torch.tensor([[self.voices[self._places(row)[0]].mean] for row in rows], device=places.device)
        return torch.tensor(rows, device=places.device), places, weights[..., None].to(places.device), mean

    def _places(self, row: int) -> range:
        """Where a row's voices stand."""
        first = sum(self.counts[:row])
        return range(first, first + self.counts[row])

    def logits(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        """The model's own logits [B, V] after ids [B, K], a row a voice; the cache is written, and nothing else changes."""
        out = self.backbone.model(input_ids=ids, attention_mask=mask, position_ids=positions,
                                  past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        return self._taken(self.logits(ids, positions, mask), ids.shape[1])

    def _taken(self, logits: Tensor, columns: int) -> Tensor:
        """The rows' logits of their voices', so many columns of text having been read."""
        self.at += columns
        if not self.blends:
            return logits
        found = logits[self.firsts].float()
        for rows, places, weights, mean in self.blends:
            found[rows] = blended(logits[places], weights, mean)
        return found


def _bias(each: Sequence[Voice], slots: int, dtype: torch.dtype) -> Tensor:
    """The additive value [B, S] of every slot: log(strength), and what hides those a voice leaves empty."""
    bias = torch.full((len(each), slots), smallest(dtype), dtype=dtype)
    for row, voice in zip(bias, each, strict=True):
        at = 0
        for segment, strength in voice.parts:
            row[at:at + segment.length] = math.log(strength)
            at += segment.length
    return bias
