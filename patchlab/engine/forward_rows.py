"""The forward rows of a request: which segments each attends to, and how their outputs are combined to one distribution.

A request in *parallel* or *sequential* mode takes one forward row. In *blend* mode it takes one row of the bare base and one per
patch, and the changes of the log-probabilities are added. Modes are handled in this module and in `plan` only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from patchlab.engine.segments import Segment
from patchlab.errors import StackError
from patchlab.models import Adapter
from patchlab.patches.manifest import MAX_STRENGTH

# tokens below this share of a row's highest probability are implausible in it (arXiv 2210.15097, section 3.3)
PLAUSIBLE = 0.1

Part = tuple[Segment, float]  # a segment and its strength


class ForwardRow(NamedTuple):
    """One row of a forward pass: the segments it attends to, and the weight of its log-probabilities in the request's.

    `averaging` is for blends: changes are averaged with weights proportional to their KL to the base, instead of added. With an
    `adapter` the row is computed by the base with this adapter; it has no segments, which are the bare base's.
    """

    parts: tuple[Part, ...] = ()
    weight: float = 1.0
    averaging: bool = False
    adapter: Adapter | None = None

    @property
    def start(self) -> int:
        """The position of the first text token, after the longest segment."""
        return max((segment.length + segment.room for segment, _ in self.parts), default=0)

    @property
    def slots(self) -> int:
        """The number of slots of all segments."""
        return sum(segment.length for segment, _ in self.parts)


def parallel(parts: Sequence[Part]) -> tuple[ForwardRow, ...]:
    """One row that attends to all segments; strength 0 is off. Raises StackError for a strength out of range."""
    return (ForwardRow(tuple(part for part in parts if _strength(part) > 0)),)


def blend(parts: Sequence[Part], *, averaging: bool = False) -> tuple[ForwardRow, ...]:
    """The bare base and one row per segment; their weights sum to 1.

    base + sum of strength x (patch - base) gives the base the weight 1 - sum of strengths, and each patch its strength. With
    `averaging` the changes are averaged instead, weighted at every token by KL(patch || base); a strength above 1 then
    counts as 1. Raises StackError for a strength out of range.
    """
    on = [part for part in parts if _strength(part) > 0]
    if not on:
        return (ForwardRow(),)
    bare = ForwardRow((), 1 - math.fsum(strength for _, strength in on), averaging)
    return (bare, *(ForwardRow(((segment, 1.0),), strength, averaging) for segment, strength in on))


def normalised(parts: Sequence[Part], most: float = 1.0) -> tuple[Part, ...]:
    """Parts with their strengths scaled by one factor so that the sum is at most `most`.

    In parallel, n patches take about n times the attention that one was trained to take. Raises StackError unless `most` > 0.
    """
    if not (math.isfinite(most) and most > 0):
        raise StackError(f"strengths that add up to {most:g}", expected="a number over 0", do="change most")
    total = math.fsum(strength for _, strength in parts)
    return tuple((segment, strength * min(1.0, most / total)) for segment, strength in parts) if total > 0 else tuple(parts)


def blended(logits: Tensor, weights: Tensor, averaging: Tensor) -> Tensor:
    """Combine several rows, the bare base first, into one distribution.

    logits [N, ..., V], weights [N, ..., 1], averaging (bool [..., 1]: average instead of add) -> log-probabilities [..., V].

    A sum of changes can make implausible tokens likely: if each of two patches raises a token 100 times, the sum raises it
    10,000 times. Therefore a token that is implausible in every row gets at most its highest probability in any row; the excess
    is distributed to the other tokens in proportion. A single patch at strength 1 is not changed.
    """
    each = logits.float().log_softmax(-1)
    if bool(averaging.any()):
        weights = torch.where(averaging, _averaged(each, weights), weights)
    total = (weights * each).sum(0).log_softmax(-1)
    likely = (each - each.amax(-1, keepdim=True) >= math.log(PLAUSIBLE)).any(0)
    capped = torch.where(likely, total, torch.minimum(total, each.amax(0)))
    lost = (total.exp() - capped.exp()).sum(-1, keepdim=True).log()  # -inf if nothing was capped
    held = total.masked_fill(~likely, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.where(likely, total + torch.logaddexp(held, lost) - held, capped)


def _averaged(each: Tensor, weights: Tensor) -> Tensor:
    """Weights proportional to strength x KL(row || base)."""
    moved = (each[1:].exp() * (each[1:] - each[:1])).sum(-1, keepdim=True).clamp(min=0)
    others = weights[1:].clamp(max=1) * moved / moved.sum(0, keepdim=True).clamp(min=1e-12)
    return torch.cat([1 - others.sum(0, keepdim=True), others])


def _strength(part: Part) -> float:
    if not 0 <= part[1] <= MAX_STRENGTH:  # also refuses NaN
        raise StackError(f"a segment of strength {part[1]:g}", expected=f"a number from 0 to {MAX_STRENGTH:g}",
                         do="set it to 0 to switch the patch off")
    return part[1]
