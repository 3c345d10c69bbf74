"""The forward rows that one request takes: which segments each attends to, and how their outputs become one distribution.

A request in *parallel* or *sequential* mode takes one forward row. In *blend* mode it takes one row of the bare base and one a
patch, and the changes to the log-probabilities are added. Only this module and the plan know that modes exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from patchlab.engine.segments import Segment
from patchlab.errors import StackError
from patchlab.patches.manifest import MAX_STRENGTH

# a row finds a token unlikely under this share of the probability of its likeliest token (arXiv 2210.15097, section 3.3)
PLAUSIBLE = 0.1

Part = tuple[Segment, float]  # a segment that is on, and its strength


class ForwardRow(NamedTuple):
    """Segments that attend together in one row of a forward pass, and the weight of its log-probabilities in the request's.

    `averaging` belongs to a blend: the changes are averaged by how far each moves the base, instead of added.
    """

    parts: tuple[Part, ...] = ()
    weight: float = 1.0
    averaging: bool = False

    @property
    def start(self) -> int:
        """The position of the first text token: behind the segment that reaches furthest."""
        return max((segment.length + segment.room for segment, _ in self.parts), default=0)

    @property
    def slots(self) -> int:
        """How many slots the segments take, side by side."""
        return sum(segment.length for segment, _ in self.parts)


def parallel(parts: Sequence[Part]) -> tuple[ForwardRow, ...]:
    """One row in which all segments stand side by side; strength 0 is off. Raises StackError for a strength out of range."""
    return (ForwardRow(tuple(part for part in parts if _strength(part) > 0)),)


def blend(parts: Sequence[Part], *, averaging: bool = False) -> tuple[ForwardRow, ...]:
    """The bare base and one row a segment; their weights sum to 1.

    base + sum of strength x (patch - base) is the base times 1 - sum of strengths, and each patch times its strength. With
    `averaging` the changes are averaged instead, each weighted at every token by its KL from the base; a strength over 1 then
    counts as 1. Raises StackError for a strength out of range.
    """
    on = [part for part in parts if _strength(part) > 0]
    if not on:
        return (ForwardRow(),)
    bare = ForwardRow((), 1 - math.fsum(strength for _, strength in on), averaging)
    return (bare, *(ForwardRow(((segment, 1.0),), strength, averaging) for segment, strength in on))


def normalised(parts: Sequence[Part], most: float = 1.0) -> tuple[Part, ...]:
    """Parts scaled alike so that their strengths add up to `most` at most. Raises StackError for a limit that is none.

    Side by side, n patches draw n times the attention that each was trained to draw.
    """
    if not (math.isfinite(most) and most > 0):
        raise StackError(f"strengths that add up to {most:g}", expected="a number over 0", do="change most")
    total = math.fsum(strength for _, strength in parts)
    return tuple((segment, strength * min(1.0, most / total)) for segment, strength in parts) if total > 0 else tuple(parts)


def blended(logits: Tensor, weights: Tensor, averaging: Tensor) -> Tensor:
    """One distribution of several rows, the bare base first.

    logits [N, ..., V], weights [N, ..., 1] and where to average instead of adding (bool [..., 1]) to log-probabilities [..., V].

    A sum of changes can leave the language: where each of two patches raises a token a hundredfold from almost nothing, the sum
    raises it ten thousand times. So a token that every row finds unlikely may not become likelier than in the row that likes
    it best; the probability it loses goes to the others in proportion. A single patch at strength 1 is not changed.
    """
    each = logits.float().log_softmax(-1)
    if bool(averaging.any()):
        weights = torch.where(averaging, _averaged(each, weights), weights)
    total = (weights * each).sum(0).log_softmax(-1)
    likely = (each - each.amax(-1, keepdim=True) >= math.log(PLAUSIBLE)).any(0)
    capped = torch.where(likely, total, torch.minimum(total, each.amax(0)))
    lost = (total.exp() - capped.exp()).sum(-1, keepdim=True).log()  # -inf where nothing is lost
    held = total.masked_fill(~likely, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.where(likely, total + torch.logaddexp(held, lost) - held, capped)


def _averaged(each: Tensor, weights: Tensor) -> Tensor:
    """Weights proportional to KL(row || base), times the strengths."""
    moved = (each[1:].exp() * (each[1:] - each[:1])).sum(-1, keepdim=True).clamp(min=0)
    others = weights[1:].clamp(max=1) * moved / moved.sum(0, keepdim=True).clamp(min=1e-12)
    return torch.cat([1 - others.sum(0, keepdim=True), others])


def _strength(part: Part) -> float:
    if not 0 <= part[1] <= MAX_STRENGTH:  # NaN is in no range
        raise StackError(f"a segment of strength {part[1]:g}", expected=f"a number from 0 to {MAX_STRENGTH:g}",
                         do="set it to 0 to switch the patch off")
    return part[1]
