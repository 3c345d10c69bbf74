"""Moves compiled patches to other positions, so that they stand right before the current turn of a conversation.

With rotary position embeddings a key at another position is the same key rotated by a fixed angle per dimension, and values do
not depend on the position. The angles come from the model's own rotary module, so every scaling of them is covered; which
dimensions form a pair is found by comparing with a prefix compiled at the other positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from patchlab.engine.forward_rows import ForwardRow
from patchlab.engine.segments import Segment, compile_prefix
from patchlab.models import Backbone
from patchlab.models.views import attending

PROBE, MOVED = 4, 7  # tokens of the probe, and positions that it is moved by
NEAR = {torch.float32: 1e-3, torch.float64: 1e-3}  # largest error of a moved key, relative to the largest key; else COARSE
COARSE = 0.05


class Anchors:
    """Whether and how patches can be moved on a backbone; `reason` says why they cannot, and is empty if they can.

    `attends` says whether the attention of the model can be replaced, which moved patches need.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        kinds = getattr(backbone.model.config, "layer_types", None)
        self.kinds: list[str | None] = list(kinds or [None] * len(backbone.layers))
        self.rotary = next((part for name, part in backbone.model.named_modules() if name.endswith("rotary_emb")), None)
        self.layouts: list[_Layout] = []
        self.attends = self._attends()
        self.reason = self._probe()

    @torch.no_grad()
    def _probe(self) -> str:
        if self.rotary is None:
            return "its positions are learned and not rotary"
        if not self.attends:
            return "its attention cannot be replaced"
        prefix = self.backbone.embeddings[:PROBE].detach().float()
        here, there = compile_prefix(self.backbone, prefix), compile_prefix(self.backbone, prefix, first=MOVED)
        for k, (old, new) in enumerate(zip(here.keys, there.keys, strict=True)):
            turn = self._angles(self.kinds[k], [MOVED])
            errors = {layout: float((layout.rotated(old[None], turn)[0] - new).abs().max() / new.abs().max())
                      for layout in LAYOUTS}
            best = min(errors, key=lambda layout: errors[layout])
            if errors[best] > NEAR.get(self.backbone.dtype, COARSE):
                return f"the keys of its layer {k} do not rotate with their position"
            self.layouts.append(best)
        return ""

    @torch.no_grad()
    def _attends(self) -> bool:
        """Whether every layer calls the attention function of a view."""
        called: set[int] = set()

        def attend(layer: int, query: Tensor, *others: Any, **options: Any) -> Tensor:
            called.add(layer)
            return torch.zeros_like(query)

        ids = torch.zeros(1, 1, dtype=torch.long, device=self.backbone.device)
        attending(self.backbone.model, attend)(input_ids=ids, use_cache=False)
        return len(called) == len(self.backbone.layers)

    def moved(self, segment: Segment, by: Sequence[int]) -> tuple[Tensor, ...]:
        """For each layer the keys [N, H, P, head width] at N other places, `by` positions further (to the left if negative).

        Differentiable with respect to the segment's keys.
        """
        turns = {kind: self._angles(kind, by) for kind in {*self.kinds}}
        return tuple(layout.rotated(key[None].expand(len(by), -1, -1, -1), turns[kind])
                     for layout, key, kind in zip(self.layouts, segment.keys, self.kinds, strict=True))

    def anchored(self, row: ForwardRow, start: int, frame: int) -> ForwardRow:
        """The row with its segments moved to where they are in a single turn: `frame` positions before a turn at `start`."""
        def moved(segment: Segment) -> Segment:
            keys = self.moved(segment, [start - frame - row.start])
            return Segment(tuple(key[0] for key in keys), segment.values, segment.room)

        return row._replace(parts=tuple((moved(segment), strength) for segment, strength in row.parts))

    def _angles(self, kind: str | None, by: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Cosines and sines [N, 1, 1, rotated width / 2] of the angles that a key of a layer of this kind turns by."""
        assert self.rotary is not None
        place = torch.tensor([list(by)], device=self.backbone.device)
        like = torch.zeros(1, 1, 1, device=self.backbone.device)  # float32, whatever the model computes in
        options = {"layer_type": kind} if "layer_type" in inspect.signature(self.rotary.forward).parameters else {}
        cos, sin = (each[0].float() for each in self.rotary(like, place.abs(), **options))
        half = cos.shape[1] // 2
        # angles are written twice, in two halves or as neighbours; some scalings multiply both by a factor that keys have already
        repeated = torch.equal(cos[:, :half], cos[:, half:])
        cos, sin = (each[:, :half] if repeated else each[:, ::2] for each in (cos, sin))
        length = (cos.square() + sin.square()).sqrt()
        return (cos / length)[:, None, None], (sin / length * place[0].sign()[:, None])[:, None, None]


class _Layout(NamedTuple):
    """Which dimensions of a key form a rotated pair."""

    name: str

    def rotated(self, keys: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Keys [N, H, P, head width] after the rotations by N angles."""
        if self.name == "still":
            return keys
        cos, sin = turn
        width = 2 * cos.shape[-1]
        part = keys[..., :width].float()
        halves = self.name == "halves"
        first, second = part.chunk(2, -1) if halves else (part[..., ::2], part[..., 1::2])
        pair = first * cos - second * sin, second * cos + first * sin
        turned = torch.cat(pair, -1) if halves else torch.stack(pair, -1).flatten(-2)
        return torch.cat([turned.to(keys.dtype), keys[..., width:]], -1)


LAYOUTS = (_Layout("halves"), _Layout("neighbours"), _Layout("still"))


def anchors_of(backbone: Backbone) -> Anchors:
    """The anchors of a backbone, found at first use."""
    if backbone.anchors is None:
        backbone.anchors = Anchors(backbone)
    found: Anchors = backbone.anchors
    return found
