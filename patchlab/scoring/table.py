"""The table of scorers: a name in, something that scores text out.

`toxicity` and `refusal` are embedded and always here, each with a second one that is built otherwise (`toxicity-2`,
`refusal-2`). `toxicity-encoder` and `refusal-encoder` read sentences through a small encoder that comes by pip. The others are
classifiers of the Hub, named in HUB or given as `hub:<model id>`, whose weights are loaded at the first score.

`judge_set` is the only place that decides which of them judge by default: those on the encoder where it is installed, each with
an embedded one of another kind as the second opinion, else the embedded ones. Training filters its pairs with `toxicity` and
`refusal` whatever is installed: it gives the same pairs everywhere, and what is measured is not measured by its own filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

from patchlab.errors import NotFoundError
from patchlab.records import Score
from patchlab.scoring.embedded import load_embedded
from patchlab.scoring.encoder import LABELS, EncoderScorer, load_encoder_scorer
from patchlab.scoring.hub import HUB, HubScorer
from patchlab.scoring.models import KINDS
from patchlab.scoring.sentence_encoder import PIP, encoder_folder

Claim = Literal["toxicity", "refusal"]
JudgeSetName = Literal["", "coarse", "encoder"]


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


@dataclass(frozen=True, slots=True)
class JudgeSet:
    """The scorers that judge each claim, the first one shown and the second one beside it; `note` says what they are."""

    name: JudgeSetName
    toxicity: tuple[str, str]
    refusal: tuple[str, str]
    note: str

    def of(self, claim: Claim) -> tuple[str, str]:
        """The scorers of a claim."""
        return self.toxicity if claim == "toxicity" else self.refusal

    @property
    def first(self) -> dict[Claim, str]:
        """The first scorer of each claim."""
        return {"toxicity": self.toxicity[0], "refusal": self.refusal[0]}


COARSE = JudgeSet("coarse", ("toxicity", "toxicity-2"), ("refusal", "refusal-2"),
                  "Coarse word-based judges: they miss what is only implied and sometimes flag calm text.")
ENCODER = JudgeSet("encoder", ("toxicity-encoder", "toxicity-2"), ("refusal-encoder", "refusal-2"),
                   "Judges on a small sentence encoder, with word-based ones as the second opinion.")


def judge_set(name: str = "") -> JudgeSet:
    """The judges of that name; without one those on the encoder where it is installed, else the coarse ones.

    Raises NotFoundError for another name.
    """
    if name not in ("", COARSE.name, ENCODER.name):
        raise NotFoundError.of("set of judges", name, [COARSE.name, ENCODER.name])
    if name:
        return COARSE if name == COARSE.name else ENCODER
    return ENCODER if encoder_folder() else COARSE


def claim_of(scorer: str) -> str:
    """What a scorer of this table judges, `toxicity` or `refusal`; for another one its own name."""
    return next((claim for claim in ("toxicity", "refusal") if scorer in (*KINDS, *LABELS) and scorer.startswith(claim)), scorer)


def stride_of(scorer: Scorer) -> int:
    """How many tokens a growing text gains before it is worth another score: scorers on the encoder cost milliseconds."""
    return 4 if isinstance(scorer, EncoderScorer) else 1


def coarse_note(judges: JudgeSet) -> str:
    """One line for where coarse scores are shown, with the way to better ones; empty for judges on the encoder."""
    if judges.name != COARSE.name:
        return ""
    return judges.note if encoder_folder() else f"{judges.note} For better ones: {PIP}"
