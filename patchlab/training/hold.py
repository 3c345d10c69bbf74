"""What a patch must not change: base replies to other prompts, and the base's distribution over each of their tokens.

`Rows` deals batches of rows without end; `Hold` is the KL term. With companions present, what is held is the base *with
those patches on*: a patch told to behave like the bare base would fight its neighbours in a stack.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import Backbone, Segment, compile_prefix
from patchlab.engine.batch import Part
from patchlab.engine.teacher import Texts, pad_texts, reply_logits
from patchlab.records import Prompt

REMEMBERED = 1 << 30  # bytes of log-probabilities kept for batches seen again

Pair = tuple[list[int], list[int]]


class Rows:
    """Encoded prompts with replies, dealt in fixed batches of like length, in seeded order; batch k is always the same."""

    def __init__(self, backbone: Backbone, prompts: Sequence[Prompt], replies: Sequence[str], *, rows: int,
                 seed: int) -> None:
        pairs = [(backbone.encode(p), backbone.encode_reply(r, kind=p.kind))
                 for p, r in zip(prompts, replies, strict=True)]
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


@dataclass(frozen=True, slots=True)
class Present:
    """What is on in a step: the patch in training with its companions, and what is held to: these alone, side by side."""

    parts: tuple[Part, ...]
    beside: tuple[Part, ...]


class Companions:
    """Other patches, each present with probability 1/2 in a step; the choice depends on seed and step only.

    Where some are present they stand, in a share `in_sequence` of these steps, one after another with the patch in
    training at any place among them, as in the paper; else side by side. What is held to stands side by side in both:
    companions that were not made for a sequence are a bad example of one.
    """

    def __init__(self, backbone: Backbone, prefixes: Sequence[Tensor], *, seed: int, in_sequence: float = 0.0) -> None:
        self.backbone, self.seed, self.in_sequence = backbone, seed, in_sequence
        self.prefixes = [prefix.to(backbone.device) for prefix in prefixes]
        self.sets = [c for size in range(len(prefixes) + 1) for c in combinations(range(len(prefixes)), size)]
        self._compiled: dict[int, Segment] = {}

    def at(self, step: int, prefix: Tensor) -> Present:
        """What is present around `prefix` [P, D] in a step; gradients flow to it."""
        draw = random.Random(f"{self.seed}|{step}")
        chosen = list(self.sets[draw.randrange(len(self.sets))])
        beside = tuple((self._segment(k), 1.0) for k in chosen)
        if not chosen or draw.random() >= self.in_sequence:
            return Present(((compile_prefix(self.backbone, prefix), 1.0), *beside), beside)
        draw.shuffle(chosen)
        place = draw.randrange(len(chosen) + 1)
        mates = [self.prefixes[k] for k in chosen]
        joint = compile_prefix(self.backbone, torch.cat([*mates[:place], prefix, *mates[place:]]))
        return Present(((joint, 1.0),), beside)

    def _segment(self, k: int) -> Segment:
        """One companion compiled, once; at full precision whatever training uses."""
        if k not in self._compiled:
            with torch.no_grad(), torch.autocast(self.backbone.device.type, enabled=False):
                self._compiled[k] = compile_prefix(self.backbone, self.prefixes[k])
        return self._compiled[k]


class Targets:
    """A frozen backbone's log-probabilities [N, V] of the reply tokens of fixed batches, kept for when they come again."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.kept: dict[tuple[int, ...], Tensor] = {}
        self.size = 0

    def of(self, number: int, texts: Texts, parts: tuple[Part, ...] = ()) -> Tensor:
        """The log-probabilities of batch `number` with these parts on, without gradient."""
        key = (number, *(id(segment) for segment, _ in parts))
        if key not in self.kept:
            with torch.no_grad():
                found = reply_logits(self.backbone, texts, parts).float().log_softmax(-1).to(torch.bfloat16)
            if self.size + found.numel() * 2 > REMEMBERED:
                return found.float()
            self.kept[key] = found
            self.size += found.numel() * 2
        return self.kept[key].float()


class Hold:
    """KL(base with companions || the same with the patch), in nats a token, over a batch of the base's own replies."""

    def __init__(self, backbone: Backbone, rows: Rows) -> None:
        self.backbone, self.rows, self.targets = backbone, rows, Targets(backbone)

    def loss(self, step: int, present: Present) -> Tensor:
        """The term of a step; gradients flow to the patch in training only."""
        number, texts = self.rows.deal(step)
        now = reply_logits(self.backbone, texts, present.parts).float().log_softmax(-1)
        target = self.targets.of(number, texts, present.beside)
        return functional.kl_div(now, target, reduction="sum", log_target=True) / len(target)
