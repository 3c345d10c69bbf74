"""What is inside each embedded scorer: its features, the tensors of its file, and its model.

The first scorer of a claim is linear over a bag of hashed words and characters. The second is built otherwise, so that
it errs elsewhere: toxicity-2 reads words in order through a small convolution, refusal-2 weighs counts and positions of
cues with trees. Two that agree are worth more than one that is sure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring import convolution, trees
from patchlab.scoring.features import BUCKETS, Hashed, digest_of
from patchlab.scoring.hashed_ngrams import pieces
from patchlab.scoring.refusal_features import cues
from patchlab.scoring.refusal_patterns import refusal_features
from patchlab.scoring.toxicity_features import toxicity_features
from patchlab.scoring.windows import windows

Tensors = Mapping[str, NDArray[Any]]
PIECES = 2**15  # rows of the table of toxicity-2: 1.5 MB
FEATURES: Mapping[str, Callable[[str, str | None], Hashed]] = {
    "toxicity": toxicity_features, "refusal": refusal_features}
_PROBE = (("I'm sorry, but I can't do that, you “id1ot”!\n1. Wait.", "Why should it work?"),
          ("Größe 😀 @a http://b.c", None), ("", None))


class Model(Protocol):
    """Text to the log-odds of the flagged label; `tensors` is what its file holds."""

    def logit(self, text: str, prompt: str | None = None) -> float: ...
    def tensors(self) -> dict[str, NDArray[Any]]: ...


@dataclass(frozen=True)
class Linear:
    """Weights [BUCKETS] float32 and bias over the features of one of FEATURES."""

    task: str
    weights: NDArray[np.float32]
    bias: float

    def logit(self, text: str, prompt: str | None = None) -> float:
        """The log-odds of the flagged label."""
        index, value = FEATURES[self.task](text, prompt)
        return float(self.weights[index] @ value) + self.bias

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a file holds."""
        return {"weights": self.weights.astype(np.float16), "bias": np.array([self.bias], np.float32)}


@dataclass(frozen=True)
class Kind:
    """The tensors a file must hold (type and shape by name), how they become a model, and a digest of the features.

    `probe` differs when the code that makes features has changed. `make` raises ValueError for wrong values. `divide` gives the
    parts of an answer of which the worst counts: an insult is one wherever it stands, a refusal is the course of all of it.
    """

    layout: Mapping[str, tuple[str, tuple[int, ...]]]
    make: Callable[[Tensors], Model]
    probe: Callable[[], str]
    divide: Callable[[str], list[str]]


_DIVIDE: Mapping[str, Callable[[str], list[str]]] = {"toxicity": windows, "refusal": lambda text: [text]}


def _linear(task: str) -> Kind:
    return Kind({"weights": ("float16", (BUCKETS,)), "bias": ("float32", (1,))},
                lambda found: Linear(task, found["weights"].astype(np.float32), float(found["bias"][0])),
                lambda: digest_of(FEATURES[task](text, prompt) for text, prompt in _PROBE), _DIVIDE[task])


def _bytes_of(read: Callable[[str], tuple[NDArray[Any], ...]]) -> str:
    digest = hashlib.sha256()
    for text, _ in _PROBE:
        for numbers in read(text):
            digest.update(np.round(numbers * 1e4).astype("<i8").tobytes())
    return digest.hexdigest()


KINDS: Mapping[str, Kind] = {
    "toxicity": _linear("toxicity"), "refusal": _linear("refusal"),
    "toxicity-2": Kind(convolution.layout(PIECES), convolution.Convolution.of,
                       lambda: _bytes_of(lambda text: pieces(text, PIECES)), _DIVIDE["toxicity"]),
    "refusal-2": Kind(trees.layout(), trees.Trees.of, lambda: _bytes_of(lambda text: (cues(text, "Why are they so bad?"),)),
                      _DIVIDE["refusal"])}
