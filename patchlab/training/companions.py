"""Companions: installed patches that are switched on at random while another trains, so that it learns to share a stack."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from patchlab.engine import Segment, StackPlan, compile_prefix
from patchlab.engine.forward_rows import Part
from patchlab.models import Backbone
from patchlab.patches.stack import common_strength
from patchlab.training.config import Presence


@dataclass(frozen=True, slots=True)
class StepCompanions:
    """The companions of one step: their indices, and their segments side by side.

    In sequence the prefix in training is compiled jointly with the prefixes [P, D] `before` and `after` it, as one segment. Side
    by side, `distance` positions are left free between the longest segment and the text, as in a sequence companions are
    further away too. `strength` is that of the prefix in training, or in sequence of the one segment.
    """

    chosen: tuple[int, ...] = ()
    segments: tuple[Part, ...] = ()
    sequence: bool = False
    before: tuple[Tensor, ...] = ()
    after: tuple[Tensor, ...] = ()
    distance: int = 0
    strength: float = 1.0

    @property
    def alone(self) -> StackPlan:
        """The companions without the patch in training, side by side in both modes."""
        return StackPlan.of(*self.segments)

    def joined(self, prefix: Tensor) -> Tensor:
        """What is to be compiled [P, D]: the prefix, or in sequence the prefix among its companions."""
        return torch.cat([*self.before, prefix, *self.after]) if self.sequence else prefix

    def plan(self, compiled: Segment) -> StackPlan:
        """The patch in training with its companions, where `joined` was compiled to this segment."""
        if self.sequence:
            return StackPlan.of((compiled, self.strength))
        if self.distance:
            furthest = max(segment.length for segment in (compiled, *(segment for segment, _ in self.segments)))
            compiled = replace(compiled, room=furthest + self.distance - compiled.length)
        return StackPlan.of((compiled, self.strength), *self.segments)


class Companions:
    """Chooses the companions of each step; the choice depends on the seed and the step only.

    `companions` are their prefixes [P, D] with their strengths; `strength` is that of the patch in training. Each is present with
    probability 1/2; by `presence` number their number is drawn first, every number as likely, as of many few are rare otherwise.

    In a share `in_sequence` of the steps that have companions, all are compiled one after another in random order, as in the
    paper. There every patch adds to the distance of those before it from the text: so in half of the other steps the text begins
    1 to `distance` positions further away. The regularizer's target is always side by side: patches that were not trained for a
    sequence change each other there.
    """

    def __init__(self, backbone: Backbone, companions: Sequence[tuple[Tensor, float]], *, seed: int, strength: float = 1.0,
                 in_sequence: float = 0.0, presence: Presence = "each", distance: int = 0) -> None:
        self.backbone, self.seed, self.in_sequence, self.presence = backbone, seed, in_sequence, presence
        self.strength, self.distance = strength, distance
        self.companions = [(prefix.to(backbone.device), own) for prefix, own in companions]
        every = range(len(companions))
        self.sets = [] if presence == "number" else [c for size in range(len(every) + 1) for c in combinations(every, size)]
        self._compiled: dict[int, Segment] = {}

    def at(self, step: int) -> StepCompanions:
        """The companions of a step."""
        draw = random.Random(f"{self.seed}|{step}")
        chosen = self._chosen(draw)
        segments = tuple((self._segment(k), self.companions[k][1]) for k in chosen)
        if not chosen or draw.random() >= self.in_sequence:
            distance = draw.randint(1, self.distance) if self.distance and draw.random() < 0.5 else 0
            return StepCompanions(tuple(chosen), segments, distance=distance, strength=self.strength)
        order = list(chosen)
        draw.shuffle(order)
        place = draw.randrange(len(order) + 1)
        prefixes, strengths = zip(*(self.companions[k] for k in order), strict=True)
        return StepCompanions(tuple(chosen), segments, True, prefixes[:place], prefixes[place:],
                              strength=common_strength([self.strength, *strengths]))

    def _chosen(self, draw: random.Random) -> list[int]:
        if self.presence == "number":
            return sorted(draw.sample(range(len(self.companions)), draw.randint(0, len(self.companions))))
        return list(self.sets[draw.randrange(len(self.sets))])

    def _segment(self, k: int) -> Segment:
        """One companion, compiled once, at full precision whatever training uses."""
        if k not in self._compiled:
            with torch.no_grad(), torch.autocast(self.backbone.device.type, enabled=False):
                self._compiled[k] = compile_prefix(self.backbone, self.companions[k][0])
        return self._compiled[k]
