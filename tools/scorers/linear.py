"""The first scorers' model: a logistic regression over hashed features. The only user of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchlab.errors import MissingExtraError
from patchlab.scoring.features import BUCKETS
from patchlab.scoring.models import FEATURES
from tools.scorers.sets import Example, LabelledSet, Task, set_weights

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """A fitted model before it is a file."""

    weights: Floats
    bias: float

    def logits(self, rows: Any) -> Floats:
        """The log-odds of a matrix of features [N, BUCKETS]: [N]."""
        return np.asarray(rows @ self.weights + self.bias)


def scikit() -> Any:
    """scikit-learn with the parts that fitting uses. Raises MissingExtraError."""
    try:
        import sklearn.ensemble
        import sklearn.linear_model
        import sklearn.model_selection
    except ImportError:
        raise MissingExtraError("scikit-learn is not installed", expected="the extra [fit] for fitting scorers",
                                do="pip install 'patchlab[fit]'") from None
    return sklearn


def _sparse() -> Any:
    return import_module("scipy.sparse")  # comes with scikit-learn


def matrix(task: Task, examples: Iterable[Example], *, with_prompts: bool = True) -> Any:
    """The features of examples as a sparse matrix [N, BUCKETS]."""
    made = [FEATURES[task](each.text, each.prompt if with_prompts else None) for each in examples]
    ends = np.cumsum([0, *(len(index) for index, _ in made)])
    index = np.concatenate([np.zeros(0, np.int64), *(index for index, _ in made)])
    value = np.concatenate([np.zeros(0, np.float32), *(value for _, value in made)])
    return _sparse().csr_matrix((value, index, ends), shape=(len(made), BUCKETS))


@dataclass(frozen=True)
class Rows:
    """Rows to fit on: features [N, BUCKETS], labels [N], weights [N]."""

    features: Any
    labels: NDArray[Any]
    weights: Floats

    def __add__(self, other: Rows) -> Rows:
        return Rows(_sparse().vstack([self.features, other.features]).tocsr(), np.concatenate([self.labels, other.labels]),
                    np.concatenate([self.weights, other.weights]))


def training_rows(task: Task, used: Sequence[LabelledSet]) -> Rows:
    """The training rows of sets; where the task reads prompts, once with and once without them."""
    rows = [row for each in used for row in each.train]
    labels = np.array([row.label for row in rows])
    weights = np.concatenate([set_weights(each.train, each.share) for each in used])
    found = Rows(matrix(task, rows), labels, weights)
    return found + Rows(matrix(task, rows, with_prompts=False), labels, weights) if task == "refusal" else found


def logistic(rows: Rows, *, strength: float) -> Logistic:
    """A logistic regression with L2; `strength` is the inverse of the regularisation at mean weight 1."""
    weights = rows.weights * len(rows.weights) / rows.weights.sum()
    model = scikit().linear_model.LogisticRegression(
        C=strength, solver="liblinear", max_iter=300, tol=1e-3, random_state=0)
    # most buckets are empty in a small set, and fitting without them is several times faster
    used = np.flatnonzero(np.asarray(abs(rows.features).sum(axis=0)).ravel())
    model.fit(rows.features[:, used], rows.labels, sample_weight=weights)
    found = np.zeros(rows.features.shape[1])
    found[used] = model.coef_[0]
    return Logistic(found, float(model.intercept_[0]))


def platt(logits: Floats, labels: NDArray[Any], weights: Floats) -> tuple[float, float]:
    """The slope and shift that make log-odds promise what they keep, from rows not fitted on."""
    found = logistic(Rows(logits[:, None], labels, weights), strength=1e3)
    return float(found.weights[0]), found.bias


def scaled(model: Logistic, logits: Floats, labels: NDArray[Any], weights: Floats, *, calm: Floats,
           share: float) -> Logistic:
    """Platt scaling on rows not fitted on, then a shift that flags at most `share` of calm text at 0.5."""
    slope, shift = platt(logits, labels, weights)
    if len(calm):
        shift = min(shift, -float(np.quantile(calm * slope, 1 - share)))
    return Logistic(model.weights * slope, model.bias * slope + shift)


def folds(labels: NDArray[Any], groups: Sequence[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Five divisions into rows to fit on and rows to test, no group on both sides."""
    splitter = scikit().model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return list(splitter.split(labels, labels, groups))
