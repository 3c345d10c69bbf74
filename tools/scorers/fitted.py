"""What the fit of a claim gives: two models with thresholds, the sets they stand on, and everything measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.models import KINDS, Model
from patchlab.scoring.spelling import undisguised
from tools.scorers.figures import Agreement, Curve, Floats, Reliability, chances
from tools.scorers.sets import Example, LabelledSet


@dataclass(frozen=True)
class Fitted:
    """A scorer before it is a file, with its figures on rows it was not fitted on."""

    name: str
    model: Model
    threshold: float
    used: Sequence[LabelledSet]
    curves: Sequence[Curve]
    reliability: Reliability


@dataclass(frozen=True)
class Claim:
    """Both scorers of a claim. `groups` holds, by identity, calm rows and the share each scorer flags."""

    first: Fitted
    second: Fitted
    agreement: Sequence[Agreement]
    groups: Sequence[tuple[str, int, float, float]] = ()


def labels_of(rows: Sequence[Example]) -> NDArray[np.int64]:
    """The labels [N] of rows."""
    return np.array([row.label for row in rows])


def model_logits(name: str, model: Model, rows: Sequence[Example], *, prompts: bool = False) -> Floats:
    """The log-odds [N] of rows as the scorer of that name reads them: of its worst window, with or without what was asked."""
    divide = KINDS[name].divide
    return np.array([max(model.logit(part, row.prompt if prompts else None) for part in divide(undisguised(row.text)))
                     for row in rows])


def quiet_threshold(calm: Floats, share: float = 0.01) -> float:
    """0.5, or as many hundredths more as it takes to flag at most `share` of calm log-odds."""
    return max(0.5, math.ceil(100 * float(np.quantile(chances(calm), 1 - share))) / 100) if len(calm) else 0.5
