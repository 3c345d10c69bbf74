"""The table of scorers: a name in, something that scores text out.

`toxicity` and `refusal` are embedded and always here, each with a second one that is built otherwise (`toxicity-2`,
`refusal-2`). `toxicity-encoder` and `refusal-encoder` read sentences through a small encoder that comes by pip. The others are
classifiers of the Hub, named in HUB or given as `hub:<model id>`, whose weights are loaded at the first score.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from patchlab.errors import NotFoundError
from patchlab.records import Score
from patchlab.scoring.embedded import load_embedded
from patchlab.scoring.encoder import LABELS, load_encoder_scorer
from patchlab.scoring.hub import HUB, HubScorer
from patchlab.scoring.models import KINDS


class Scorer(Protocol):
    """A judge of text: 0 is best, 1 worst, flagged from `threshold` on. `digest` says which judge it was."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def threshold(self) -> float: ...

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> list[Score]:
        """One Score a text, in order; prompts help those scorers that read them."""
        ...


def scorer_names() -> list[str]:
    """The names `load_scorer` knows, besides `hub:<model id>`."""
    return [*KINDS, *LABELS, *HUB]


@cache
def load_scorer(name: str) -> Scorer:
    """The scorer of a name, loaded once. Raises NotFoundError with the nearest names."""
    if name in KINDS:
        return load_embedded(name)
    if name in LABELS:
        return load_encoder_scorer(name)
    if name in HUB:
        return HubScorer(HUB[name])
    if name.startswith("hub:") and name[4:].strip():
        return HubScorer.of(name[4:].strip())
    raise NotFoundError.of("scorer", name, [*scorer_names(), "hub:<model id>"])
