"""Logits of given replies under a stack: what training and evaluation ask of a backbone instead of sampling.

Rows are padded on the right and all share the same parts, so the bank's keys and values are computed and stored once
(batch 1) and only expanded; with gradients, when a part was compiled with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicLayer

from patchlab.engine.forward_rows import Parts, Voice, blended, voices
from patchlab.engine.masks import Masks
from patchlab.errors import ContextError
from patchlab.models.backbone import Backbone
from patchlab.records import Prompt


@dataclass(frozen=True, slots=True)
class Texts:
    """Encoded prompts with replies: ids [B, T] padded right, and where the reply's tokens are predicted from [B, T-1]."""

    ids: Tensor
    predicts: Tensor  # bool [B, T-1]: position t predicts a reply token at t+1

    @property
    def targets(self) -> Tensor:
        """The reply tokens of all rows, flat [N]."""
        return self.ids[:, 1:][self.predicts]

    @property
    def rows(self) -> Tensor:
        """For each of the N reply tokens its row."""
        return self.predicts.nonzero()[:, 0]

    def piece(self, place: int, of: int, *, together: int = 1) -> Texts | None:
        """Every `of`-th row from `place` on, in groups of `together` neighbours; None where no row is left."""
        if of == 1:
            return self
        rows = torch.arange(len(self.ids), device=self.ids.device).view(-1, together)[place::of].flatten()
        return Texts(self.ids[rows], self.predicts[rows]) if len(rows) else None


def encode_texts(backbone: Backbone, prompts: Sequence[Prompt], replies: Sequence[str]) -> Texts:
    """Prompts with their replies as the backbone reads them."""
    pairs = [(backbone.encode(p), backbone.encode_reply(r, kind=p.kind)) for p, r in zip(prompts, replies, strict=True)]
    return pad_texts(backbone, pairs)


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
    """A layer that starts from a bank's slots [H, S, head width], expanded to the rows at hand."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.given = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """The slots and, behind them, the text; nothing is kept: the text comes at once."""
        rows = key_states.shape[0]
        keys, values = (each[None].expand(rows, -1, -1, -1) for each in self.given)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self) -> int:
        """The slots."""
        return self.given[0].shape[1]


@contextmanager
def _checkpointed(backbone: Backbone) -> Iterator[None]:
    """Layers that keep nothing but their input and run once more in the backward pass.

    The library's own switch works in training mode only, where dropout would be on.
    """
    layers = backbone.layers
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def reply_logits(backbone: Backbone, texts: Texts, parts: Parts = (), *, checkpointing: bool = False) -> Tensor:
    """Logits [N, V] that predict each reply token; a part of strength 0 is off, and a blend gives log-probabilities.

    With `checkpointing`, gradients cost a second forward pass and no longer the memory of all layers.
    Raises ContextError where patch and text do not fit the model.
    """
    if checkpointing:
        with _checkpointed(backbone):
            return reply_logits(backbone, texts, parts)
    each = voices(parts)
    if len(each) == 1:
        return _logits(backbone, texts, each[0])
    weights = torch.tensor([voice.weight for voice in each], device=texts.ids.device)
    mean = torch.tensor([each[0].mean], device=texts.ids.device)
    return blended(torch.stack([_logits(backbone, texts, voice) for voice in each]), weights[:, None, None], mean)


def _logits(backbone: Backbone, texts: Texts, voice: Voice) -> Tensor:
    """What one voice says: logits [N, V]."""
    length = texts.ids.shape[1] - 1
    if voice.start + length > backbone.context:
        raise ContextError(f"{voice.start + length:,} positions needed ({voice.start} for the patch)",
                           expected=f"at most {backbone.context:,} available", do="shorten the text or the patch")
    ids = texts.ids[:, :-1]
    positions = (torch.arange(length, device=ids.device) + voice.start)[None]
    first = int(texts.predicts.any(0).nonzero()[0])
    keep = {"logits_to_keep": length - first}  # the prompt's logits are not asked for
    if not voice.parts:
        logits = backbone.model(input_ids=ids, position_ids=positions, use_cache=False, **keep).logits
    else:
        bias = torch.cat([torch.full((segment.length,), math.log(strength), dtype=backbone.dtype)
                          for segment, strength in voice.parts]).to(ids.device)
        none = torch.zeros(1, dtype=torch.long, device=ids.device)
        mask = Masks(backbone.model.config, bias[None], none, length=length).prefill(length)
        segments = [segment for segment, _ in voice.parts]
        layers: list[Any] = [
            _Given(torch.cat([s.keys[k] for s in segments], dim=1), torch.cat([s.values[k] for s in segments], dim=1))
            for k in range(backbone.model.config.num_hidden_layers)]
        logits = backbone.model(input_ids=ids, attention_mask=mask, position_ids=positions,
                                past_key_values=Cache(layers=layers), use_cache=True, **keep).logits
    return logits[texts.predicts[:, first:]]


def reply_logprobs(logits: Tensor, texts: Texts) -> Tensor:
    """The summed log-probability [B] of each row's reply, from `reply_logits`."""
    each = -functional.cross_entropy(logits.float(), texts.targets, reduction="none")
    return torch.zeros(texts.ids.shape[0], device=each.device).index_add(0, texts.rows, each)
