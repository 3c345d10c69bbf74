"""What the fit of a claim gives: two models with thresholds, the sets they stand on, and everything measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.models import Model
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


def model_logits(model: Model, rows: Sequence[Example]) -> Floats:
    """The log-odds [N] of rows, their prompts not read."""
    return np.array([model.logit(row.text) for row in rows])


def quiet_threshold(calm: Floats, share: float = 0.01) -> float:
    """0.5, or as many hundredths more as it takes to flag at most `share` of calm log-odds."""
    return max(0.5, math.ceil(100 * float(np.quantile(chances(calm), 1 - share))) / 100) if len(calm) else 0.5
