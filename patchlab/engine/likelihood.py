"""Logits of given replies under a plan (teacher forcing), for training and evaluation.

Rows are padded on the right and share one plan, so the keys and values of its segments are stored once (batch 1) and expanded.
Segments that were compiled with gradients receive gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache, DynamicLayer

from patchlab.engine.forward_rows import ForwardRow, blended
from patchlab.engine.masks import Masks
from patchlab.engine.plan import BARE, StackPlan
from patchlab.errors import ContextError
from patchlab.models.backbone import Backbone
from patchlab.models.views import checkpointed
from patchlab.records import Prompt


@dataclass(frozen=True, slots=True)
class Texts:
    """Encoded prompts with replies: ids [B, T] padded on the right, and which positions [B, T-1] predict reply tokens."""

    ids: Tensor
    predicts: Tensor  # bool [B, T-1]: position t predicts a reply token at t+1

    @property
    def targets(self) -> Tensor:
        """The reply tokens of all rows, flat [N]."""
        return self.ids[:, 1:][self.predicts]

    @property
    def rows(self) -> Tensor:
        """The row [N] of each reply token."""
        return self.predicts.nonzero()[:, 0]

    def piece(self, place: int, of: int, *, together: int = 1) -> Texts | None:
        """Every `of`-th group of `together` consecutive rows, starting with group `place`; None if there is none."""
        if of == 1:
            return self
        rows = torch.arange(len(self.ids), device=self.ids.device).view(-1, together)[place::of].flatten()
        return Texts(self.ids[rows], self.predicts[rows]) if len(rows) else None


def encode_texts(backbone: Backbone, prompts: Sequence[Prompt], replies: Sequence[str], *,
                 cut: Sequence[bool] = ()) -> Texts:
    """Encode prompts with their replies; a reply that was `cut` at the token limit gets no end-of-turn token."""
    ended = [not each for each in cut] or [True] * len(prompts)
    return pad_texts(backbone, [(backbone.encode(p), backbone.encode_reply(r, kind=p.kind, complete=complete))
                                for p, r, complete in zip(prompts, replies, ended, strict=True)])


def pad_texts(backbone: Backbone, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Texts:
    """Pairs of prompt ids and reply ids as one right-padded batch."""
    longest = max(len(p) + len(r) for p, r in pairs)
    ids = torch.full((len(pairs), longest), backbone.tokenizer.pad_token_id or 0)
    predicts = torch.zeros(len(pairs), longest - 1, dtype=torch.bool)
    for row, (prompt, reply) in enumerate(pairs):
        both = len(prompt) + len(reply)
        ids[row, :both] = torch.tensor([*prompt, *reply])
        predicts[row, len(prompt) - 1:both - 1] = True
    return Texts(ids.to(backbone.device), predicts.to(backbone.device))


class _Given(DynamicLayer):
    """A cache layer that contains a bank's slots [H, S, head width], expanded to the rows of the batch."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.given = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """The slots followed by the text; nothing is stored, since the whole text is read in one pass."""
        rows = key_states.shape[0]
        keys, values = (each[None].expand(rows, -1, -1, -1) for each in self.given)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self) -> int:
        """The number of slots."""
        return self.given[0].shape[1]


def reply_logits(backbone: Backbone, texts: Texts, plan: StackPlan = BARE, *, checkpointing: bool = False) -> Tensor:
    """Logits [N, V] that predict each reply token; for a blend, log-probabilities.

    `checkpointing` recomputes activations in the backward pass instead of storing those of all layers.
    Raises ContextError if patch and text exceed the model's context.
    """
    model: Any = checkpointed(backbone.model) if checkpointing else backbone.model
    if len(plan.rows) == 1:
        return _logits(backbone, model, texts, plan.rows[0])
    weights = torch.tensor([row.weight for row in plan.rows], device=texts.ids.device)
    averaging = torch.tensor([plan.rows[0].averaging], device=texts.ids.device)
    each = torch.stack([_logits(backbone, model, texts, row) for row in plan.rows])
    return blended(each, weights[:, None, None], averaging)


def _logits(backbone: Backbone, model: Any, texts: Texts, row: ForwardRow) -> Tensor:
    """The logits [N, V] of one forward row."""
    length = texts.ids.shape[1] - 1
    if row.start + length > backbone.context:
        raise ContextError(f"{row.start + length:,} positions needed ({row.start} for the patch)",
                           expected=f"at most {backbone.context:,} available", do="shorten the text or the patch")
    ids = texts.ids[:, :-1]
    positions = (torch.arange(length, device=ids.device) + row.start)[None]
    first = int(texts.predicts.any(0).nonzero()[0])
    keep = {"logits_to_keep": length - first}  # prompt logits are not needed
    if not row.parts:
        logits = model(input_ids=ids, position_ids=positions, use_cache=False, **keep).logits
    else:
        bias = torch.cat([torch.full((segment.length,), math.log(strength), dtype=backbone.dtype)
                          for segment, strength in row.parts]).to(ids.device)
        none = torch.zeros(1, dtype=torch.long, device=ids.device)
        mask = Masks(backbone.model.config, bias[None], none, length=length).read(0, length)
        segments = [segment for segment, _ in row.parts]
        layers: list[Any] = [
            _Given(torch.cat([s.keys[k] for s in segments], dim=1), torch.cat([s.values[k] for s in segments], dim=1))
            for k in range(backbone.model.config.num_hidden_layers)]
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=Cache(layers=layers),
                       use_cache=True, **keep).logits
    return logits[texts.predicts[:, first:]]


def reply_logprobs(logits: Tensor, texts: Texts) -> Tensor:
    """The summed log-probability [B] of each row's reply, from `reply_logits`."""
    each = -functional.cross_entropy(logits.float(), texts.targets, reduction="none")
    return torch.zeros(texts.ids.shape[0], device=each.device).index_add(0, texts.rows, each)
