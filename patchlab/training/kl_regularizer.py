"""What a patch must not change: base replies to other prompts, and the base's distribution over each of their tokens.

`Hold` is the KL term. With companions present, what is held is the base *with those patches on*: a patch told to behave like
the bare base would fight its neighbours in a stack.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import Segment, compile_prefix
from patchlab.engine.decode import Part
from patchlab.engine.likelihood import Texts, reply_logits
from patchlab.models import Backbone
from patchlab.patches.stack import common_strength
from patchlab.training.config import HeldTo, Presence
from patchlab.training.dataset import Rows, token_mean

REMEMBERED = 1 << 30  # bytes of log-probabilities kept for batches seen again


@dataclass(frozen=True, slots=True)
class Present:
    """The companions of a step: `beside` is what is held to, these alone and side by side.

    In sequence the patch is compiled between `before` and `after`, the prefixes [P, D] of those companions, as one segment;
    else `distance` positions are left free between the longest of them and the text: companions are further away too.
    `strength` is what the patch stands at, or in sequence all of it.
    """

    beside: tuple[Part, ...] = ()
    sequence: bool = False
    before: tuple[Tensor, ...] = ()
    after: tuple[Tensor, ...] = ()
    distance: int = 0
    strength: float = 1.0

    def around(self, prefix: Tensor) -> Tensor:
        """What is to be compiled: the prefix, or in sequence with its companions."""
        return torch.cat([*self.before, prefix, *self.after]) if self.sequence else prefix

    def parts(self, compiled: Segment) -> tuple[Part, ...]:
        """All that is on, given what `around` was compiled to."""
        if self.sequence:
            return ((compiled, self.strength),)
        if not self.distance:
            return ((compiled, self.strength), *self.beside)
        furthest = max(segment.length for segment in (compiled, *(segment for segment, _ in self.beside)))
        return ((replace(compiled, room=furthest + self.distance - compiled.length), self.strength), *self.beside)


class Companions:
    """Other patches beside the one in training, which stands at strength `own`, each present with probability 1/2 in a step.

    Who is present depends on seed and step only. Each stands at its own of the `strengths`, 1 where none are given.

    By `presence` number it is drawn first how many: of many companions few, or none, would never be seen else.

    Where some are present they stand, in a share `in_sequence` of these steps, one after another with the patch in
    training at any place among them, as in the paper; else side by side. What is held to stands side by side in both:
    companions that were not made for a sequence are a bad example of one.

    Much of what undoes a patch in a sequence is its distance to the text, which every patch behind it adds to. So in half of
    the other steps the text begins up to `distance` positions further from the patch.
    """

    def __init__(self, backbone: Backbone, prefixes: Sequence[Tensor], *, seed: int, own: float = 1.0,
                 strengths: Sequence[float] = (), in_sequence: float = 0.0, presence: Presence = "each",
                 distance: int = 0) -> None:
        self.backbone, self.seed, self.in_sequence, self.presence = backbone, seed, in_sequence, presence
        self.own, self.distance = own, distance
        self.prefixes = [prefix.to(backbone.device) for prefix in prefixes]
        self.strengths = list(strengths) or [1.0] * len(prefixes)
        every = range(len(prefixes))
        self.sets = [] if presence == "number" else [c for size in range(len(every) + 1) for c in combinations(every, size)]
        self._compiled: dict[int, Segment] = {}

    def at(self, step: int) -> Present:
        """Who is present in a step, and how they stand."""
        draw = random.Random(f"{self.seed}|{step}")
        chosen = self._chosen(draw)
        beside = tuple((self._segment(k), self.strengths[k]) for k in chosen)
        if not chosen or draw.random() >= self.in_sequence:
            distance = draw.randint(1, self.distance) if self.distance and draw.random() < 0.5 else 0
            return Present(beside, distance=distance, strength=self.own)
        draw.shuffle(chosen)
        place = draw.randrange(len(chosen) + 1)
        mates = [self.prefixes[k] for k in chosen]
        together = common_strength([self.own, *(self.strengths[k] for k in chosen)])
        return Present(beside, True, tuple(mates[:place]), tuple(mates[place:]), strength=together)

    def _chosen(self, draw: random.Random) -> list[int]:
        """The companions that are present."""
        if self.presence == "number":
            return sorted(draw.sample(range(len(self.prefixes)), draw.randint(0, len(self.prefixes))))
        return list(self.sets[draw.randrange(len(self.sets))])

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

    def of(self, texts: Texts, parts: tuple[Part, ...], *place: int) -> Tensor:
        """The log-probabilities of the texts at `place` (a batch's number, its piece, of how many), without gradient."""
        key = (*place, *(id(segment) for segment, _ in parts))
        if key not in self.kept:
            with torch.no_grad():
                found = reply_logits(self.backbone, texts, parts).float().log_softmax(-1).to(torch.bfloat16)
            if self.size + found.numel() * 2 > REMEMBERED:
                return found.float()
            self.kept[key] = found
            self.size += found.numel() * 2
        return self.kept[key].float()


class Hold:
    """KL(base with companions || the same with the patch), in nats a token, over a batch of the base's own replies.

    With `held_to` base the left side is the bare base whatever is present. A reply's first token counts `lead` times: what
    a neighbour is for is often decided there, and in a mean over all tokens it would hardly show.
    """

    def __init__(self, backbone: Backbone, rows: Rows, *, held_to: HeldTo = "present", checkpointing: bool = False,
                 lead: float = 1.0) -> None:
        self.backbone, self.rows, self.lead = backbone, rows, lead
        self.to_present, self.checkpointing = held_to == "present", checkpointing
        self.targets = Targets(backbone)

    def loss(self, step: int, parts: tuple[Part, ...], present: Present, *, piece: int = 0, of: int = 1) -> Tensor:
        """One piece's part of the term of a step; gradients flow to the patch among `parts` only."""
        number, whole = self.rows.deal(step)
        texts = whole.piece(piece, of)
        if texts is None:
            return torch.zeros((), device=whole.ids.device)
        target = self.targets.of(texts, present.beside if self.to_present else (), number, piece, of)
        now = reply_logits(self.backbone, texts, parts, checkpointing=self.checkpointing)
        each = functional.kl_div(now.float().log_softmax(-1), target, reduction="none", log_target=True).sum(-1)
        return token_mean(each, texts, whole, self.lead)
