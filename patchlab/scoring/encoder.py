"""Scorers on a small sentence encoder: toxicity and refusal. More than word counts, still a small model.

All read the vectors of `SentenceEncoder` through a linear head. The heads and the low-rank changes of the encoder's layers are
in encoder.safetensors, thresholds and figures in encoder.json; the encoder itself is installed with pip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from patchlab.errors import NotFoundError, PatchFormatError, TamperedError
from patchlab.records import EMPTY, UNJUDGED, Score
from patchlab.scoring.answer import answer_of, check_texts, has_text
from patchlab.scoring.language import judged
from patchlab.scoring.sentence_encoder import DIGESTS, SentenceEncoder
from patchlab.scoring.spelling import undisguised
from patchlab.scoring.windows import windows
from patchlab.storage import ASSETS

FOLDER = ASSETS / "scorers"
MAX_BYTES = 2**23
PROMPTS = "prompt-encoder"  # the judge of prompts, whose head is in the same file
Floats = NDArray[np.float32]
# what clear and flagged text is called by each scorer
LABELS: Mapping[str, tuple[str, str]] = {
    "toxicity-encoder": ("not toxic", "toxic"), "refusal-encoder": ("answered", "refused")}


def features(name: str, encoder: SentenceEncoder, texts: Sequence[Sequence[str]]) -> list[Floats]:
    """What the head of a scorer reads of each text, given in windows: [rows, F], of which the worst row counts.

    Toxicity reads every window by itself. Refusal is the course of a whole reply: its first and second window, and the mean and
    maximum over all.
    """
    vectors = encoder.vectors([part for parts in texts for part in parts])
    ends = np.cumsum([0, *map(len, texts)])
    found = [vectors[start:end] for start, end in pairwise(ends)]
    half = encoder.width // 2
    if name == "toxicity-encoder":
        return [each[:, half:] for each in found]
    return [np.concatenate([each[0], each[min(1, len(each) - 1)], each.mean(0), each.max(0)])[None, :] for each in
            (each[:, :half] for each in found)]


@dataclass(frozen=True)
class Head:
    """A logistic regression over features: weights [F] and bias [1]."""

    weights: Floats
    bias: Floats

    def chance(self, rows: Floats) -> float:
        """The probability of a text by the worst of its rows [N, F]."""
        return float(1 / (1 + np.exp(-float((rows @ self.weights + self.bias).max()))))


@cache
def tuned_encoder() -> SentenceEncoder:
    """The encoder with the changes of encoder.safetensors, loaded once. Raises MissingExtraError, TamperedError."""
    _, tensors = read_files(FOLDER)
    return SentenceEncoder.load({name: value for name, value in tensors.items() if name.startswith("encoder.")})


@dataclass(frozen=True)
class EncoderScorer:
    """A head on the encoder. Like embedded scorers it judges the answer without its reasoning, disguised words spelled out."""

    name: str
    digest: str
    threshold: float
    head: Head
    encoder: Callable[[], SentenceEncoder] = tuned_encoder  # called at the first score

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> list[Score]:
        """One Score a text, in order; `prompts` are not read. Raises InputError, MissingExtraError, TamperedError."""
        check_texts(texts, prompts)
        plain = [undisguised(answer) if has_text(answer) else "" for answer in map(answer_of, texts)]
        asked = [at for at, text in enumerate(plain) if text and judged(text)]
        rows = features(self.name, self.encoder(), [windows(plain[at]) for at in asked]) if asked else []
        found = {at: self._verdict(each) for at, each in zip(asked, rows, strict=True)}
        return [found[at] if at in found else self._unknown(text) for at, text in enumerate(plain)]

    def _unknown(self, plain: str) -> Score:
        return Score(self.name, 0.5 if plain else 0.0, False, UNJUDGED if plain else EMPTY)

    def _verdict(self, rows: Floats) -> Score:
        value = self.head.chance(rows)
        flagged = value >= self.threshold
        return Score(self.name, value, flagged, LABELS[self.name][flagged])


def load_encoder_scorer(name: str, folder: Path = FOLDER) -> EncoderScorer:
    """The scorer `name` of LABELS; the encoder is loaded at the first score.

    Raises NotFoundError, PatchFormatError, TamperedError.
    """
    card, tensors = read_files(folder)
    threshold = card["thresholds"].get(name)
    head = Head(tensors[f"{name}.weights"], tensors[f"{name}.bias"])
    if head.weights.ndim != 1 or head.bias.shape != (1,) or not 0 < threshold < 1:
        raise PatchFormatError(f"{name} has weights {head.weights.shape} and threshold {threshold}",
                               expected="[F] and a number between 0 and 1", do="restore the files")
    identity = json.dumps([name, threshold, LABELS[name], card["weights_sha256"], DIGESTS], sort_keys=True)
    return EncoderScorer(name, hashlib.sha256(identity.encode()).hexdigest(), float(threshold), head)


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The card and the tensors, checked. Raises NotFoundError, PatchFormatError, TamperedError."""
    paths = [folder / f"encoder.{kind}" for kind in ("json", "safetensors")]
    for path in paths:
        if not path.is_file():
            raise NotFoundError(f"no scorer file {path.name}", expected=f"it in {folder}",
                                do="run python -m tools.scorers.encoder, or work from a full checkout")
        if path.stat().st_size > MAX_BYTES:
            raise PatchFormatError(f"{path.name} is over {MAX_BYTES} bytes", expected="a small file", do="restore the file")
    data = paths[1].read_bytes()
    try:
        card = json.loads(paths[0].read_text(encoding="utf-8"))
        digest, thresholds = card["weights_sha256"], card["thresholds"]
        numbers = [*thresholds.values(), *card["prompts"].values()]
        if set(thresholds) != set(LABELS) or not all(isinstance(each, float) for each in numbers):
            raise ValueError("thresholds are not one number a scorer")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PatchFormatError(f"encoder.json cannot be used ({str(error)[:80]})", expected="the card of the scorers",
                               do="restore the file") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise TamperedError("encoder.safetensors is not the file its card names", expected=f"sha256 {str(digest)[:12]}..",
                            do="restore both files together")
    try:
        tensors = load_tensors(data)
        heads = {f"{name}.{part}": tensors[f"{name}.{part}"] for name in (*LABELS, PROMPTS)
                 for part in ("weights", "bias")}
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise PatchFormatError(f"encoder.safetensors cannot be read ({str(error)[:80]})", expected="heads and low-rank changes",
                               do="restore the file") from None
    if not all(np.isfinite(each).all() for each in tensors.values()):
        raise PatchFormatError("encoder.safetensors holds numbers that are not finite", expected="finite weights",
                               do="restore the file")
    return card, {**tensors, **{name: each.astype(np.float32) for name, each in heads.items()}}
