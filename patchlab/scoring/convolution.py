"""The second toxicity scorer: embeddings of hashed n-grams, a convolution of width 3, max and mean pooling, a linear layer.

A small convolution: what counts is the order of words, and one insult counts as much in a long text as alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.hashed_ngrams import PLACES, pieces

Floats = NDArray[np.float32]
WIDTH, FILTERS = 24, 64  # D and F below; V is the rows of the table
WINDOW = 3  # pieces a filter sees


def layout(rows: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and shape of every tensor in a file, for a table of so many rows."""
    return {"table": ("float16", (rows, WIDTH)), "places": ("float32", (PLACES, WIDTH)),
            "kernel": ("float32", (WINDOW * WIDTH, FILTERS)), "floor": ("float32", (FILTERS,)),
            "out": ("float32", (2 * FILTERS,)), "bias": ("float32", (1,))}


@dataclass(frozen=True)
class Convolution:
    """`table` [V, D], `places` [PLACES, D], `kernel` [WINDOW * D, F], `floor` [F], `out` [2 F], `bias` [1]."""

    table: Floats
    places: Floats
    kernel: Floats
    floor: Floats
    out: Floats
    bias: Floats

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a file holds."""
        return {name: getattr(self, name).astype(kind) for name, (kind, _) in layout(len(self.table)).items()}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Convolution:
        """The model of a file's tensors."""
        return cls(**{name: tensor.astype(np.float32) for name, tensor in tensors.items()})

    def logit(self, text: str, prompt: str | None = None) -> float:
        """The log-odds of the flagged label. The prompt is not read."""
        rows, places = pieces(text, len(self.table))
        if not len(places):
            return float(self.bias[0])
        count = len(places)
        padded = np.zeros((count + WINDOW - 1, WIDTH), np.float32)
        padded[1:-1] = self.table[rows].sum(1) + self.places[places]
        windows = np.concatenate([padded[k:k + count] for k in range(WINDOW)], axis=1)
        found = np.maximum(windows @ self.kernel + self.floor, 0)  # [T, F]
        pooled = np.concatenate([found.max(0), found.sum(0) / np.float32(count) ** 0.5])
        return float(pooled @ self.out + self.bias[0])

    def scaled(self, slope: float, shift: float) -> Convolution:
        """The same model with log-odds of slope * logit + shift."""
        return replace(self, out=self.out * np.float32(slope), bias=(self.bias * slope + shift).astype(np.float32))
