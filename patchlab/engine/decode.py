"""A batch of rows of one backbone, each with its own stack, with one forward pass per step; rows can leave and join.

A row's columns are the slots of its segments, then its text. Slots are padded on the right and text on the left; both kinds of
padding are masked and take no position, so a row's tokens have the same positions as in a batch of one.

In a conversation a row's text is the current turn. Its history has the positions before it, and its slots are as far from the
current turn as in a single turn; histories are shared by rows (`histories`, `attention`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from patchlab.engine.adapters import adapted
from patchlab.engine.anchors import anchors_of
from patchlab.engine.attention import Attention
from patchlab.engine.cuda_graph import PATIENCE, StaticStep
from patchlab.engine.forward_rows import ForwardRow, blended
from patchlab.engine.histories import History, Past, read_from
from patchlab.engine.kv_cache import RowLayer
from patchlab.engine.masks import Masks, smallest
from patchlab.engine.plan import BARE, StackPlan
from patchlab.models import Backbone
from patchlab.models.views import attending

SCORES = 1 << 22  # attention scores of one head that are stored at a time


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A prompt's token ids and the plan of its stack; with a `history`, ids of the current turn only.

    The first `frame` tokens of the history belong to no exchange (a system message).
    """

    ids: Sequence[int]
    plan: StackPlan = BARE
    history: History | None = None
    frame: int = 0


class Place(NamedTuple):
    """Where a forward row stands: its history, the tokens of it that are no exchange, and its first text token's position."""

    history: History | None
    frame: int
    start: int


class Batch:
    """Rows that decode together: `prefill`, then any number of `step`; `keep` removes rows, `join` adds those of another batch.

    `room` is the expected number of new tokens per row; when it is used up, the batch is copied to blocks with as much again.
    """

    def __init__(self, backbone: Backbone, rows: Sequence[BatchRow], *, room: int) -> None:
        self.backbone, self.room = backbone, room
        each = [row.plan.rows for row in rows]
        self.counts = [len(group) for group in each]  # forward rows per row
        self.places = [_place(row, forward_row) for row in rows for forward_row in row.plan.rows]
        self.forward_rows = _anchored(backbone, [forward_row for group in each for forward_row in group], self.places)
        ids = [list(row.ids) for row, count in zip(rows, self.counts, strict=True) for _ in range(count)]
        longest = max(len(one) for one in ids)
        self.pads = [longest - len(one) for one in ids]
        pad = backbone.tokenizer.pad_token_id or 0
        self.ids = torch.tensor([[pad] * (longest - len(one)) + one for one in ids], device=backbone.device)
        self.at = 0  # text columns in the cache
        self.static: StaticStep | None
        self._settle(longest + room)
        self.cache = Cache(layers=[self._cache_layer(k) for k in range(backbone.model.config.num_hidden_layers)])

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def unread(self) -> int:
        """The number of prompt columns that are not yet in the cache."""
        return self.ids.shape[1] - self.at

    @torch.inference_mode()
    def read(self, columns: int) -> Tensor:
        """Read at most `columns` more prompt columns; returns the logits [B, V] after the last of them."""
        if self.past:  # whose scores are stored
            columns = min(columns, max(1, SCORES // (len(self.places) * (self.past.length + self.ids.shape[1]))))
        first, last = self.at, min(self.at + columns, self.ids.shape[1])
        place = torch.arange(first, last, device=self.ids.device)
        positions = (self.offsets[:, None] + place[None]).clamp(min=0)
        mask = None if self.masks.plain and first == 0 else self.masks.read(first, last)
        return self._forward(self.ids[:, first:last], positions, mask)

    def prefill(self) -> Tensor:
        """Read all prompt columns; returns the logits [B, V] after each prompt."""
        logits = self.read(self.ids.shape[1])
        while self.unread:
            logits = self.read(self.unread)
        return logits

    def history(self) -> History:
        """The prompt of a batch of one row without slots, with its keys and values, as the history of a conversation."""
        ids, before = tuple(self.ids[0].tolist()), self.places[0].history
        keys, values = read_from(self.cache.layers, 0, self.slots, self.slots + self.at)
        return before.extended(ids, keys, values) if before else History(ids, keys, values, self.forward_rows[0].adapter)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token per row; returns the logits [B, V] after it, which the next step may overwrite."""
        if self.at == self.masks.length:
            self._lay([(self, range(len(self)))], room=self.room)
        repeated = [token for token, count in zip(tokens, self.counts, strict=True) for _ in range(count)]
        ids = torch.tensor(repeated, device=self.offsets.device)[:, None]
        self.still += 1
        if not self.backbone.static or self.past or self.still < PATIENCE:
            return self._forward(ids, (self.offsets + self.at)[:, None], self.masks.decode(self.at))
        if self.static is None:
            self.static = StaticStep(self)
        return self._taken(self.static(self, ids), 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all rows but these and free their memory, with the slots and columns that no remaining row uses."""
        self._lay([(self, rows)], room=self.masks.length - self.at)

    def join(self, other: Batch) -> None:
        """Append the rows of another batch, which must not be used afterwards."""
        self._lay([(each, range(len(each))) for each in (self, other)],
                  room=max(each.masks.length - each.at for each in (self, other)))

    def _lay(self, pieces: Sequence[tuple[Batch, Sequence[int]]], *, room: int) -> None:
        """Copy rows of batches to new blocks: all texts end at the same column, and the longest has no padding."""
        places = [[place for row in rows for place in batch._rows_of(row)] for batch, rows in pieces]
        widths = [max(batch.at - batch.pads[k] for k in some) for (batch, _), some in zip(pieces, places, strict=True)]
        at = max(widths)
        self.counts, self.forward_rows, self.places, self.pads = (
            [batch.counts[row] for batch, rows in pieces for row in rows],
            [batch.forward_rows[k] for (batch, _), some in zip(pieces, places, strict=True) for k in some],
            [batch.places[k] for (batch, _), some in zip(pieces, places, strict=True) for k in some],
            [batch.pads[k] + at - batch.at for (batch, _), some in zip(pieces, places, strict=True) for k in some])
        self.at = at
        self._settle(at + room)
        every: list[list[Any]] = [batch.cache.layers for batch, _ in pieces]
        for k in range(len(self.cache.layers)):  # layer by layer, so that at most one layer exists twice
            new = self._cache_layer(k)
            new.take(list(zip([layers[k] for layers in every], places, widths, strict=True)), at)
            for layers in every:
                layers[k] = new

    def _settle(self, columns: int) -> None:
        """Compute masks, positions and blends of the present forward rows, for `columns` columns of text."""
        self.still = 0  # steps since the last change of layout
        self.static = None
        device, dtype = self.backbone.device, self.backbone.dtype
        stacks = groupby(tuple(segment for segment, _ in forward_row.parts) for forward_row in self.forward_rows)
        self.runs = [(segments, len(list(same))) for segments, same in stacks]
        pads = torch.tensor(self.pads, device=device)
        self.offsets = torch.tensor([place.start for place in self.places], device=device) - pads
        self.slots = max(forward_row.slots for forward_row in self.forward_rows)
        bias = _bias(self.forward_rows, self.slots, dtype).to(device)
        histories = [place.history for place in self.places]
        self.past = Past(histories, [place.frame for place in self.places], device) if any(histories) else None
        self.model: Any = adapted(self.backbone, self.forward_rows)
        if self.past:
            self.model = attending(self.model, Attention(self.past, self.slots))
        self.masks = Masks(self.backbone.model.config, bias, pads, length=columns, past=self.past)
        self.blends = [self._blend(count) for count in sorted(set(self.counts)) if count > 1]
        self.firsts = torch.tensor([self._rows_of(row)[0] for row in range(len(self))], device=device)

    def _cache_layer(self, k: int) -> RowLayer:
        return RowLayer(self.runs, k, self.slots, self.masks.length)

    def _blend(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For rows of `count` forward rows: rows [n], forward rows [count, n], weights [count, n, 1], averaging [n, 1]."""
        rows = [row for row in range(len(self)) if self.counts[row] == count]
        places = torch.tensor([list(self._rows_of(row)) for row in rows], device=self.backbone.device).T
        weights = torch.tensor([[self.forward_rows[place].weight for place in self._rows_of(row)] for row in rows]).T
        averaging = torch.tensor([[self.forward_rows[self._rows_of(row)[0]].averaging] for row in rows], device=places.device)
        return torch.tensor(rows, device=places.device), places, weights[..., None].to(places.device), averaging

    def _rows_of(self, row: int) -> range:
        """The indices of a row's forward rows."""
        first = sum(self.counts[:row])
        return range(first, first + self.counts[row])

    def logits(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        """The model's logits [B, V] after ids [B, K], one row per forward row; only the cache changes."""
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions,
                         past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        return self._taken(self.logits(ids, positions, mask), ids.shape[1])

    def _taken(self, logits: Tensor, columns: int) -> Tensor:
        """The logits of the rows from those of their forward rows; counts `columns` more columns of text."""
        self.at += columns
        if not self.blends:
            return logits
        combined = logits[self.firsts].float()
        for rows, places, weights, averaging in self.blends:
            combined[rows] = blended(logits[places], weights, averaging)
        return combined


def _place(row: BatchRow, forward_row: ForwardRow) -> Place:
    """Text starts behind the slots, or where the row's history ends."""
    start = forward_row.start if row.history is None else len(row.history)
    return Place(row.history, row.frame, start)


def _anchored(backbone: Backbone, rows: Sequence[ForwardRow], places: Sequence[Place]) -> list[ForwardRow]:
    """The rows with their slots right before their texts; equal rows at equal places stay one object."""
    keys = [(id(row), place.start, place.frame) for row, place in zip(rows, places, strict=True)]
    made = {key: anchors_of(backbone).anchored(row, place.start, place.frame) if place.history else row
            for key, row, place in zip(keys, rows, places, strict=True)}
    return [made[key] for key in keys]


def _bias(each: Sequence[ForwardRow], slots: int, dtype: torch.dtype) -> Tensor:
    """The additive mask [B, S] of every slot: log(strength), and the smallest number for slots that a row does not use."""
    bias = torch.full((len(each), slots), smallest(dtype), dtype=dtype)
    for row, forward_row in zip(bias, each, strict=True):
        at = 0
        for segment, strength in forward_row.parts:
            row[at:at + segment.length] = math.log(strength)
            at += segment.length
    return bias
