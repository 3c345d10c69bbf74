"""The model of the second refusal scorer: many small decision trees over the numbers of a reply, added up.

Every tree is complete: node n has children 2 n + 1 and 2 n + 2, and a branch that ends early repeats its leaf. So a
file is three arrays without pointers, and all trees take a step at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.refusal_features import COLUMNS, cues

TREES, DEPTH = 300, 4
NODES, LEAVES = 2**DEPTH - 1, 2**DEPTH


def layout() -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and shape of every tensor in a file."""
    return {"column": ("uint8", (TREES, NODES)), "cut": ("float64", (TREES, NODES)),
            "leaf": ("float32", (TREES, LEAVES)), "bias": ("float32", (1,))}


@dataclass(frozen=True)
class Trees:
    """`column` [N, NODES] says which number a node looks at, right when over `cut` [N, NODES]; `leaf` [N, LEAVES]."""

    column: NDArray[np.uint8]
    cut: NDArray[np.float64]
    leaf: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.column.max(initial=0) >= COLUMNS:
            raise ValueError(f"column {int(self.column.max())} of {COLUMNS}")

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a file holds."""
        return {name: getattr(self, name).astype(kind) for name, (kind, _) in layout().items()}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Trees:
        """The model of a file's tensors. Raises ValueError for a column that no reply has."""
        return cls(**tensors)

    def sums(self, numbers: NDArray[np.float32]) -> NDArray[np.float64]:
        """The log-odds [R] of replies given as numbers [R, COLUMNS]."""
        every, each = np.arange(len(numbers))[:, None], np.arange(len(self.leaf))[None]
        node = np.zeros((len(numbers), len(self.leaf)), np.int64)
        for _ in range(DEPTH):
            node = 2 * node + 1 + (numbers[every, self.column[each, node]] > self.cut[each, node])
        return np.asarray(self.leaf[each, node - NODES].astype(np.float64).sum(1) + float(self.bias[0]))

    def logit(self, text: str, prompt: str | None = None) -> float:
        """The log-odds of the flagged label."""
        return float(self.sums(cues(text, prompt)[None])[0])

    def scaled(self, slope: float, shift: float) -> Trees:
        """The same model with log-odds of slope * logit + shift."""
        return replace(self, leaf=self.leaf * np.float32(slope), bias=(self.bias * slope + shift).astype(np.float32))
