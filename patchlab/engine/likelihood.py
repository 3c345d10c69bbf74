"""Logits of given replies under a plan (teacher forcing), for training and evaluation.

Rows are padded on the right and share one plan, so the keys and values of its segments are stored once (batch 1) and expanded.
Segments that were compiled with gradients receive gradients. In a conversation the history is read without gradients, as no token
of it depends on the plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from patchlab.engine.adapters import adapted
from patchlab.engine.anchors import anchors_of
from patchlab.engine.attention import Attention, explicit
from patchlab.engine.forward_rows import ForwardRow, blended
from patchlab.engine.histories import History, Past
from patchlab.engine.masks import Masks
from patchlab.engine.plan import BARE, StackPlan
from patchlab.errors import ContextError
from patchlab.models import Backbone, Encoded
from patchlab.models.views import attending, checkpointed, predicting
from patchlab.records import Prompt


@dataclass(frozen=True, slots=True)
class Texts:
    """Encoded prompts with replies: ids [B, T] padded on the right, and which positions [B, T-1] predict reply tokens.

    `frames` and `turns` say for each row where the exchanges and the current turn begin, as in `models.Encoded`.
    """

    ids: Tensor
    predicts: Tensor  # bool [B, T-1]: position t predicts a reply token at t+1
    frames: tuple[int, ...]
    turns: tuple[int, ...]

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
        rows = torch.arange(len(self.ids)).view(-1, together)[place::of].flatten().tolist()
        frames, turns = (tuple(each[row] for row in rows) for each in (self.frames, self.turns))
        return Texts(self.ids[rows], self.predicts[rows], frames, turns) if rows else None

    @property
    def histories(self) -> tuple[tuple[int, ...], ...]:
        """The ids of each row's earlier turns."""
        return tuple(tuple(row[:turn].tolist()) for row, turn in zip(self.ids, self.turns, strict=True))

    def current(self) -> Texts:
        """The texts without their histories; what they predict stays the same."""
        last = self.predicts.long().cumsum(1).argmax(1).tolist()
        length = max(end + 1 - turn for end, turn in zip(last, self.turns, strict=True))
        place = torch.arange(length + 1, device=self.ids.device) + torch.tensor(self.turns, device=self.ids.device)[:, None]
        inside = place < self.ids.shape[1]
        ids = self.ids.gather(1, place.clamp(max=self.ids.shape[1] - 1)) * inside
        predicts = self.predicts.gather(1, place[:, :-1].clamp(max=self.predicts.shape[1] - 1))
        predicts &= place[:, :-1] < self.predicts.shape[1]
        return Texts(ids, predicts, (0,) * len(ids), (0,) * len(ids))


def encode_texts(backbone: Backbone, prompts: Sequence[Prompt], replies: Sequence[str], *,
                 cut: Sequence[bool] = ()) -> Texts:
    """Encode prompts with their replies; a reply that was `cut` at the token limit gets no end-of-turn token."""
    ended = [not each for each in cut] or [True] * len(prompts)
    return pad_texts(backbone, [(backbone.encode_turns(p), backbone.encode_reply(r, kind=p.kind, complete=complete))
                                for p, r, complete in zip(prompts, replies, ended, strict=True)])


def pad_texts(backbone: Backbone, pairs: Sequence[tuple[Encoded | Sequence[int], Sequence[int]]]) -> Texts:
    """Pairs of prompt ids, by themselves or `Encoded`, and reply ids as one right-padded batch."""
    prompts = [prompt if isinstance(prompt, Encoded) else Encoded([*prompt]) for prompt, _ in pairs]
    pairs = [(prompt.ids, reply) for prompt, (_, reply) in zip(prompts, pairs, strict=True)]
    longest = max(len(p) + len(r) for p, r in pairs)
    ids = torch.full((len(pairs), longest), backbone.tokenizer.pad_token_id or 0)
    predicts = torch.zeros(len(pairs), longest - 1, dtype=torch.bool)
    for row, (prompt, reply) in enumerate(pairs):
        both = len(prompt) + len(reply)
        ids[row, :both] = torch.tensor([*prompt, *reply])
        predicts[row, len(prompt) - 1:both - 1] = True
    return Texts(ids.to(backbone.device), predicts.to(backbone.device), tuple(prompt.frame for prompt in prompts),
                 tuple(prompt.turn for prompt in prompts))


class _Given(DynamicLayer):
    """A cache layer that contains a bank's slots [B or 1, H, S, head width], expanded to the rows of the batch."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.given = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """The slots followed by the text; nothing is stored, since the whole text is read in one pass."""
        rows = key_states.shape[0]
        keys, values = (each.expand(rows, -1, -1, -1) for each in self.given)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self) -> int:
        """The number of slots."""
        return self.given[0].shape[2]


def reply_logits(backbone: Backbone, texts: Texts, plan: StackPlan = BARE, *, checkpointing: bool = False) -> Tensor:
    """Logits [N, V] that predict each reply token; for a blend, log-probabilities.

    `checkpointing` recomputes activations in the backward pass instead of storing those of all layers.
    Raises ContextError if patch and text exceed the model's context.
    """
    if len(plan.rows) == 1:
        return _logits(backbone, texts, plan, plan.rows[0], checkpointing)
    weights = torch.tensor([row.weight for row in plan.rows], device=texts.ids.device)
    averaging = torch.tensor([plan.rows[0].averaging], device=texts.ids.device)
    each = torch.stack([_logits(backbone, texts, plan, row, checkpointing) for row in plan.rows])
    return blended(each, weights[:, None, None], averaging)


def _logits(backbone: Backbone, texts: Texts, plan: StackPlan, row: ForwardRow, checkpointing: bool) -> Tensor:
    """The logits [N, V] of one forward row."""
    needed = texts.ids.shape[1] - 1 + (0 if all(texts.turns) else row.start)
    if needed > backbone.context:
        raise ContextError(f"{needed:,} positions needed ({row.start} for the patch)",
                           expected=f"at most {backbone.context:,} available", do="shorten the text or the patch")
    model: Any = adapted(backbone, [row])
    starts, past = [row.start] * len(texts.ids), None
    by = [0] * len(texts.ids)
    if row.parts and any(texts.turns) and plan.anchors(backbone):
        starts = [turn or row.start for turn in texts.turns]
        by = [start - frame - row.start for start, frame in zip(starts, texts.frames, strict=True)]
        past = _past(backbone, texts)
        model = attending(model, Attention(past, row.slots))
        texts = texts.current()
    elif row.parts and torch.is_grad_enabled() and backbone.device.type == "cpu" and anchors_of(backbone).attends:
        model = attending(model, explicit)
    model = predicting(checkpointed(model) if checkpointing else model, texts.predicts)  # a vocabulary is wide
    ids = texts.ids[:, :-1]
    length = ids.shape[1]
    positions = torch.arange(length, device=ids.device) + torch.tensor(starts, device=ids.device)[:, None]
    logits: Tensor
    if not row.parts:
        logits = model(input_ids=ids, position_ids=positions[:1], use_cache=False).logits
    else:
        bias = torch.cat([torch.full((segment.length,), math.log(strength), dtype=backbone.dtype)
                          for segment, strength in row.parts]).to(ids.device)
        rows = len(ids) if past else 1
        none = torch.zeros(rows, dtype=torch.long, device=ids.device)
        mask = Masks(backbone.model.config, bias.expand(rows, -1), none, length=length, past=past).read(0, length)
        cache = Cache(layers=_given(backbone, row, by[:rows]))
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions[:rows], past_key_values=cache,
                       use_cache=True).logits
    return logits[0]


def _given(backbone: Backbone, row: ForwardRow, by: Sequence[int]) -> list[Any]:
    """Cache layers with the slots of a forward row, moved by so many positions in each row of the batch."""
    segments = [segment for segment, _ in row.parts]
    keys = [anchors_of(backbone).moved(segment, by) if any(by) else [key[None] for key in segment.keys] for segment in segments]
    return [_Given(torch.cat([each[k] for each in keys], dim=2),
                   torch.cat([segment.values[k] for segment in segments], dim=1)[None])
            for k in range(backbone.model.config.num_hidden_layers)]


@torch.no_grad()
def _past(backbone: Backbone, texts: Texts) -> Past:
    """The histories of all rows, each read once by the bare base."""
    each = [*dict.fromkeys(ids for ids in texts.histories if ids)]
    padded = pad_sequence([torch.tensor(ids) for ids in each], batch_first=True).to(backbone.device)
    cache, none = DynamicCache(), torch.zeros(len(each), dtype=torch.long, device=backbone.device)
    mask = Masks(backbone.model.config, padded.new_zeros(len(each), 0, dtype=backbone.dtype), none, length=padded.shape[1])
    backbone.model(input_ids=padded, attention_mask=mask.read(0, padded.shape[1]), past_key_values=cache, use_cache=True,
                   position_ids=torch.arange(padded.shape[1], device=padded.device)[None], logits_to_keep=1)
    layers: list[Any] = cache.layers
    found = {ids: History(ids, tuple(layer.keys[k, :, :len(ids)] for layer in layers),
                          tuple(layer.values[k, :, :len(ids)] for layer in layers)) for k, ids in enumerate(each)}
    return Past([found.get(ids) for ids in texts.histories], texts.frames, backbone.device)


def reply_logprobs(logits: Tensor, texts: Texts) -> Tensor:
    """The summed log-probability [B] of each row's reply, from `reply_logits`."""
    each = -functional.cross_entropy(logits.float(), texts.targets, reduction="none")
    return torch.zeros(texts.ids.shape[0], device=each.device).index_add(0, texts.rows, each)
