"""Figures of scorers on labelled rows: curves, reliability, and how far two scorers agree. Knows no models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """Figures of a scorer on one set at its threshold; None where the set has one label only."""

    name: str
    rows: int
    positive: float
    auc: float | None
    f1: float | None
    macro_f1: float | None
    precision: float | None
    caught: float | None
    false_alarms: float | None
    calm_mean: float | None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The figures for a scorer's card, to four digits."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far scores are from the shares they promise: `error` is the expected calibration error over equal bins.

    Each bin is (its share of the rows, mean score, share of label 1); empty ones are left out.
    """

    rows: int
    error: float
    bins: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two scorers on the same rows: Cohen's kappa of what they flag, and the errors of each that the other avoids."""

    name: str
    rows: int
    kappa: float | None
    first_wrong: int
    second_wrong: int
    both_wrong: int


def chances(logits: Floats) -> Floats:
    """Log-odds as probabilities."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))))


def auc(labels: NDArray[Any], scores: Floats) -> float:
    """The chance that a row of label 1 scores above one of label 0; ties count half."""
    _, place, size = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[place]
    ones = int(labels.sum())
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones)))


def f1(labels: NDArray[Any], flagged: NDArray[Any], *, of: int = 1) -> float:
    """The F1 of one of the two labels; 0 where it is neither there nor found."""
    there, found = labels == of, flagged == of
    return float(2 * (there & found).sum() / max(there.sum() + found.sum(), 1))


def macro_f1(labels: NDArray[Any], flagged: NDArray[Any]) -> float:
    """The mean F1 of both labels."""
    return (f1(labels, flagged) + f1(labels, flagged, of=0)) / 2


def curve(name: str, logits: Floats, labels: NDArray[Any], *, threshold: float = 0.5, note: str = "") -> Curve:
    """How log-odds do on one set: area under the curve, F1, and what is flagged among each label."""
    found = chances(logits)
    flagged, both = found >= threshold, 0 < labels.mean() < 1
    return Curve(
        name=name, rows=len(labels), positive=float(labels.mean()), note=note,
        auc=auc(labels, logits) if both else None,
        f1=f1(labels, flagged) if both else None, macro_f1=macro_f1(labels, flagged) if both else None,
        precision=float(labels[flagged].mean()) if both and flagged.any() else None,
        caught=float(flagged[labels == 1].mean()) if labels.any() else None,
        false_alarms=float(flagged[labels == 0].mean()) if not labels.all() else None,
        calm_mean=float(found[labels == 0].mean()) if not labels.all() else None)


def reliability(logits: Floats, labels: NDArray[Any], weights: Floats | None = None) -> Reliability:
    """The reliability of log-odds on rows they were not fitted on; `weights` [N] say how much each row counts."""
    found, share = chances(logits), np.ones(len(labels)) if weights is None else weights
    share = share / share.sum()
    at = np.minimum((found * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        here = at == k
        if here.any():
            size = float(share[here].sum())
            bins.append((size, float(share[here] @ found[here]) / size, float(share[here] @ labels[here]) / size))
    return Reliability(len(labels), sum(size * abs(mean - seen) for size, mean, seen in bins), tuple(bins))


def kappa(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Cohen's kappa of two series of verdicts; None where both give one verdict only."""
    same = float((first == second).mean())
    chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return (same - chance) / (1 - chance) if chance < 1 else None


def agreement(name: str, labels: Sequence[int] | NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> Agreement:
    """How two series of verdicts [N] agree, and where they err."""
    wrong, other = first != np.asarray(labels), second != np.asarray(labels)
    return Agreement(name, len(first), kappa(first, second), int(wrong.sum()), int(other.sum()), int((wrong & other).sum()))
