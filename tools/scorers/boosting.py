"""Grow the trees of the second refusal scorer: gradient boosting on the numbers of replies, a second or two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.refusal_features import cues
from patchlab.scoring.spelling import undisguised
from patchlab.scoring.trees import DEPTH, LEAVES, NODES, TREES, Trees
from tools.scorers.linear import Floats, scikit
from tools.scorers.sets import Example

RATE = 0.1


def numbers(rows: Iterable[Example], *, prompts: bool = True) -> NDArray[np.float32]:
    """The numbers of replies [N, COLUMNS], with or without what was asked."""
    return np.stack([cues(undisguised(row.text), row.prompt if prompts else None) for row in rows])


def grow(rows: NDArray[np.float32], labels: NDArray[Any], weights: Floats, *, seed: int = 0) -> Trees:
    """Trees fitted to rows [N, COLUMNS], labels [N] and weights [N]; the same seed gives the same trees."""
    model = scikit().ensemble.GradientBoostingClassifier(
        init="zero", n_estimators=TREES, learning_rate=RATE, max_depth=DEPTH, subsample=0.6, max_features="sqrt",
        min_samples_leaf=5, random_state=seed)
    model.fit(rows, labels, sample_weight=weights * len(weights) / weights.sum())
    made = [_complete(each.tree_) for each in model.estimators_[:, 0]]
    column, cut, leaf = (np.stack(part) for part in zip(*made, strict=True))
    return Trees(column, cut, (leaf * RATE).astype(np.float32), np.zeros(1, np.float32))


def _complete(tree: Any) -> tuple[NDArray[np.uint8], Floats, Floats]:
    """A tree with every branch at full depth: column [NODES], cut [NODES], leaf [LEAVES]."""
    column, cut, leaf = np.zeros(NODES, np.uint8), np.zeros(NODES), np.zeros(LEAVES)
    waiting = [(0, 0)]  # a node here, and the node there whose branch it continues
    while waiting:
        at, source = waiting.pop()
        split = tree.children_left[source] >= 0
        if at >= NODES:
            leaf[at - NODES] = tree.value[source, 0, 0]
            continue
        if split:
            column[at], cut[at] = tree.feature[source], tree.threshold[source]
        waiting += [(2 * at + 1, tree.children_left[source] if split else source),
                    (2 * at + 2, tree.children_right[source] if split else source)]
    return column, cut, leaf
