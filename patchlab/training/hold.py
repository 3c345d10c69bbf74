"""What a patch must not change: base replies to other prompts, and the base's distribution over each of their tokens.

`Rows` deals batches of rows without end; `Hold` is the KL term. With companions present, what is held is the base *with
those patches on*: a patch told to behave like the bare base would fight its neighbours in a stack.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import Backbone, Segment
from patchlab.engine.batch import Part
from patchlab.engine.teacher import Texts, pad_texts, reply_logits
from patchlab.errors import ContextError
from patchlab.records import Prompt
from patchlab.training.recipe import HeldTo

REMEMBERED = 1 << 30  # bytes of the base's logits kept for batches seen again

Pair = tuple[list[int], list[int]]


class Rows:
    """Encoded prompts with replies, dealt in fixed batches of like length, in seeded order; batch k is always the same.

    Raises ContextError for a text that does not fit behind a prefix of `length`.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[Prompt], replies: Sequence[str], *, rows: int,
                 seed: int, length: int = 0) -> None:
        pairs = [(backbone.encode(p), backbone.encode_reply(r, kind=p.kind))
                 for p, r in zip(prompts, replies, strict=True)]
        longest = max(len(prompt) + len(reply) for prompt, reply in pairs)
        if length + longest > backbone.context:
            raise ContextError(f"{length + longest:,} positions needed by a training text and the prefix",
                               expected=f"at most {backbone.context:,} available",
                               do="train on shorter prompts and replies, or a shorter prefix")
        shuffled = random.Random(seed).sample(pairs, len(pairs))
        # like lengths together, by neighbourhoods of eight batches so that batches stay mixed
        near = rows * 8
        ordered = [pair for at in range(0, len(shuffled), near)
                   for pair in sorted(shuffled[at:at + near], key=lambda pair: len(pair[0]) + len(pair[1]))]
        self.batches = [pad_texts(backbone, ordered[at:at + rows]) for at in range(0, len(ordered), rows)]
        self.seed = seed

    def deal(self, step: int) -> tuple[int, Texts]:
        """The batch of a step and its number."""
        turn, place = divmod(step, len(self.batches))
        order = random.Random(self.seed * 7919 + turn).sample(range(len(self.batches)), len(self.batches))
        return order[place], self.batches[order[place]]


class Companions:
    """Other patches, each present with probability 1/2 in a step; the choice depends on seed and step only."""

    def __init__(self, segments: Sequence[Segment], *, seed: int) -> None:
        self.segments, self.seed = segments, seed
        self.sets = [c for size in range(len(segments) + 1) for c in combinations(range(len(segments)), size)]

    def at(self, step: int) -> tuple[Part, ...]:
        """The parts present in a step."""
        if not self.segments:
            return ()
        chosen = self.sets[random.Random(f"{self.seed}|{step}").randrange(len(self.sets))]
        return tuple((self.segments[k], 1.0) for k in chosen)


class Hold:
    """KL(base with companions || the same with the patch), in nats a token, over a batch of the base's own replies.

    With `held_to` base the left side is the bare base whatever is present.
    """

    def __init__(self, backbone: Backbone, rows: Rows, *, held_to: HeldTo = "present", checkpointing: bool = False) -> None:
        self.backbone, self.rows = backbone, rows
        self.to_present, self.checkpointing = held_to == "present", checkpointing
        self.kept: dict[tuple[int, ...], Tensor] = {}
        self.size = 0

    def loss(self, step: int, patch: Segment, present: tuple[Part, ...], *, piece: int = 0, of: int = 1) -> Tensor:
        """One piece's part of the term of a step; gradients flow to `patch` only."""
        number, whole = self.rows.deal(step)
        texts = whole.piece(piece, of)
        if texts is None:
            return torch.zeros((), device=whole.ids.device)
        held_with = present if self.to_present else ()
        key = (number, piece, of, *(id(segment) for segment, _ in held_with))
        if key not in self.kept:
            with torch.no_grad():
                target = reply_logits(self.backbone, texts, held_with).float().log_softmax(-1).to(torch.bfloat16)
            if self.size + target.numel() * 2 <= REMEMBERED:
                self.kept[key] = target
                self.size += target.numel() * 2
        else:
            target = self.kept[key]
        now = reply_logits(self.backbone, texts, ((patch, 1.0), *present), checkpointing=self.checkpointing)
        return functional.kl_div(now.float().log_softmax(-1), target.float(), reduction="sum",
                                 log_target=True) / int(whole.predicts.sum())
