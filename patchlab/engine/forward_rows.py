"""What a stack asks of the engine: the parts that are on, and the rows of their own in which they speak.

A voice is one forward row: some parts of the bank under one mask. A row has one voice, whose logits are the row's, or, in a
blend, the bare base and one voice a patch, whose log-probabilities are summed with weights. Nothing else in the engine
knows that modes exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from patchlab.engine.segments import Segment
from patchlab.errors import StackError
from patchlab.patches.manifest import MAX_STRENGTH

# a voice finds a token unlikely under this share of the probability of its likeliest: the share of the paper that
# `blended` names
FLOOR = 0.1

Part = tuple[Segment, float]  # a segment that is on, and its strength


@dataclass(frozen=True, slots=True)
class Blend:
    """Parts that do not share a mask: each changes the base alone, and the changes are added, times their strengths.

    A patch that is to leave a text alone still moves it a little, and many such moves add up. With `mean` they are averaged
    instead, at every token each weighed by how far it moves the base there: who has something to say is heard, and what
    several say alike is said once. Nothing is said beyond what a voice says, so a strength over 1 counts as 1.
    """

    parts: tuple[Part, ...]
    mean: bool = False


Parts = Sequence[Part] | Blend


class Voice(NamedTuple):
    """Parts that attend together, and what their log-probabilities weigh in the row's; `mean` is its blend's."""

    parts: tuple[Part, ...] = ()
    weight: float = 1.0
    mean: bool = False

    @property
    def start(self) -> int:
        """The position of the first text token: behind the part that reaches furthest."""
        return max((segment.length + segment.room for segment, _ in self.parts), default=0)

    @property
    def slots(self) -> int:
        """How many slots the parts take, side by side."""
        return sum(segment.length for segment, _ in self.parts)


def voices(parts: Parts) -> tuple[Voice, ...]:
    """The voices of a row; a part of strength 0 is off and has none. Their weights sum to 1.

    base + sum of strength * (patch - base) is the base times 1 - sum of strengths, and each patch times its strength.
    Raises StackError for a strength out of range.
    """
    for _, strength in parts.parts if isinstance(parts, Blend) else parts:
        if not 0 <= strength <= MAX_STRENGTH:  # NaN is in no range
            raise StackError(f"a part of strength {strength:g}", expected=f"a number from 0 to {MAX_STRENGTH:g}",
                             do="set it to 0 to switch the part off")
    if not isinstance(parts, Blend):
        return (Voice(tuple(part for part in parts if part[1] > 0)),)
    on = [part for part in parts.parts if part[1] > 0]
    if not on:
        return (Voice(),)
    bare = Voice((), 1 - math.fsum(strength for _, strength in on), parts.mean)
    return (bare, *(Voice(((segment, 1.0),), strength, parts.mean) for segment, strength in on))


def normalised(parts: Sequence[Part], most: float = 1.0) -> tuple[Part, ...]:
    """Parts whose strengths add up to `most` at the most, each scaled alike: their share of attention stops growing with them.

    Side by side, n patches draw n times the attention that each was trained to draw. Fewer than `most` are left as they are.
    Raises StackError for a blend or a stack that heeds gates, and for a limit that is none.
    """
    if not isinstance(parts, Sequence):
        raise StackError(f"a {type(parts).__name__} to normalise", expected="parts that stand side by side",
                         do="ask for a parallel stack without gates")
    if not (math.isfinite(most) and most > 0):
        raise StackError(f"strengths that add up to {most:g}", expected="a number over 0", do="change most")
    total = math.fsum(strength for _, strength in parts)
    return tuple((segment, strength * min(1.0, most / total)) for segment, strength in parts) if total > 0 else tuple(parts)


def start_of(parts: Parts) -> int:
    """Where text starts behind these parts, in the voice where it starts last."""
    return max(voice.start for voice in voices(parts))


def blended(logits: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """One distribution of several voices, the bare base first: logits [N, ..., V], weights [N, ..., 1] and where to average
    instead of adding (bool [..., 1]) to log-probabilities [..., V].

    A sum of changes can leave the language: where each of two patches raises a token a hundredfold from nothing, the sum
    raises it ten thousand times, though no voice would say it. So a token that every voice finds unlikely may not be
    likelier than in the voice that likes it best; what it loses goes to the others in proportion. A single patch at
    strength 1 is not touched. The test of likelihood is that of contrastive decoding (arXiv 2210.15097, section 3.3).
    """
    each = logits.float().log_softmax(-1)
    if bool(mean.any()):
        weights = torch.where(mean, _averaging(each, weights), weights)
    total = (weights * each).sum(0).log_softmax(-1)
    likely = (each - each.amax(-1, keepdim=True) >= math.log(FLOOR)).any(0)
    capped = torch.where(likely, total, torch.minimum(total, each.amax(0)))
    lost = (total.exp() - capped.exp()).sum(-1, keepdim=True).log()  # -inf where nothing is
    held = total.masked_fill(~likely, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.where(likely, total + torch.logaddexp(held, lost) - held, capped)


def _averaging(each: Tensor, weights: Tensor) -> Tensor:
    """Weights that average: of each change its share of all that is moved, by KL(voice || base), times its strength."""
    moved = (each[1:].exp() * (each[1:] - each[:1])).sum(-1, keepdim=True).clamp(min=0)
    others = weights[1:].clamp(max=1) * moved / moved.sum(0, keepdim=True).clamp(min=1e-12)
    return torch.cat([1 - others.sum(0, keepdim=True), others])
