"""Scorers that travel with PatchLab: two for each claim, a few files of a MB or less, under a millisecond a text.

A scorer is two files: NAME.safetensors (what `kinds` says) and NAME.json (threshold, words for its verdicts, what it was
trained on). Both are checked like any hostile file before a number is used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from patchlab.errors import NotFoundError, PatchFormatError, TamperedError
from patchlab.records import EMPTY, UNJUDGED, Score
from patchlab.scoring.answer import answer_of, check_texts, has_text
from patchlab.scoring.language import judged
from patchlab.scoring.models import KINDS, Model
from patchlab.scoring.spelling import undisguised
from patchlab.storage import ASSETS, write_atomic, write_json

FOLDER = ASSETS / "scorers"
MAX_WEIGHTS, MAX_CARD = 2**21, 2**18  # bytes; a file over these is not one of ours and is not read
_SCHEMA = 1
_CARD_KEYS = {"schema", "name", "features", "threshold", "labels", "weights_sha256", "trained_on", "measured"}


@dataclass(frozen=True)
class EmbeddedScorer:
    """A model with a threshold; `score` gives the probability of the flagged label.

    `labels` holds the words for "flagged" and "clear". What is judged is the answer, without reasoning and with disguised
    words spelled out. An answer without text is labelled EMPTY with value 0, one in a language that the scorer was not
    fitted on UNJUDGED with value 0.5; neither is flagged.
    """

    name: str
    digest: str
    threshold: float
    labels: Mapping[str, str]
    model: Model

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> list[Score]:
        """One Score a text, in order. Raises InputError where prompts are given but not one for each text."""
        check_texts(texts, prompts)
        asked = prompts if prompts is not None else [None] * len(texts)
        return [self._one(text, prompt) for text, prompt in zip(texts, asked, strict=True)]

    def _one(self, text: str, prompt: str | None) -> Score:
        answer = answer_of(text)
        if not has_text(answer):
            return Score(self.name, 0.0, False, EMPTY)
        plain = undisguised(answer)
        if not judged(plain):
            return Score(self.name, 0.5, False, UNJUDGED)
        logit = max(self.model.logit(each, prompt) for each in KINDS[self.name].divide(plain))
        chance = 1 / (1 + math.exp(-min(max(logit, -60.0), 60.0)))
        flagged = chance >= self.threshold
        return Score(self.name, chance, flagged, self.labels["flagged" if flagged else "clear"])


def save_embedded(folder: Path, name: str, *, model: Model, card: Mapping[str, Any]) -> None:
    """Write NAME.safetensors and NAME.json; `card` gives threshold, labels, trained_on and measured."""
    data = save_tensors(model.tensors())
    write_atomic(folder / f"{name}.safetensors", lambda path: path.write_bytes(data))
    write_json(folder / f"{name}.json", {"schema": _SCHEMA, "name": name, "features": KINDS[name].probe(), **card,
                                         "weights_sha256": hashlib.sha256(data).hexdigest()})


def load_embedded(name: str, folder: Path = FOLDER) -> EmbeddedScorer:
    """The scorer `name` of a folder. Raises NotFoundError, PatchFormatError or TamperedError."""
    card = _read_card(folder / f"{name}.json", name)
    data = _read(folder / f"{name}.safetensors", MAX_WEIGHTS)
    if hashlib.sha256(data).hexdigest() != card["weights_sha256"]:
        raise TamperedError(f"{name}.safetensors is not the file its card names", do="restore both files together",
                            expected=f"sha256 {card['weights_sha256'][:12]}..")
    model = _read_model(data, name)
    identity = json.dumps([card[key] for key in ("features", "threshold", "labels", "weights_sha256")], sort_keys=True)
    return EmbeddedScorer(name, hashlib.sha256(identity.encode()).hexdigest(), float(card["threshold"]), card["labels"],
                          model)


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise NotFoundError(f"no scorer file {path.name}", expected=f"it in {path.parent}",
                            do="run python -m tools.scorers, or work from a full checkout")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PatchFormatError(f"{path.name} is over {limit} bytes", expected="a small file", do="restore the file")
    return data


def _read_card(path: Path, name: str) -> dict[str, Any]:
    try:
        card = json.loads(_read(path, MAX_CARD))
    except (ValueError, RecursionError):
        raise PatchFormatError(f"{path.name} is not JSON", expected="a scorer's card", do="restore the file") from None
    wrong = _card_problem(card, name)
    if wrong:
        raise PatchFormatError(f"{path.name}: {wrong}", expected="a scorer's card", do="restore the file")
    if card["features"] != KINDS[name].probe():
        raise PatchFormatError(f"{name} was fitted on features of another version",
                               expected="the features of this code", do="run python -m tools.scorers again")
    return card


def _card_problem(card: Any, name: str) -> str | None:
    if not isinstance(card, dict) or set(card) != _CARD_KEYS:
        return f"keys differ from {', '.join(sorted(_CARD_KEYS))}"
    if card["schema"] != _SCHEMA or card["name"] != name:
        return f"schema {card['schema']!r} of {card['name']!r} instead of schema {_SCHEMA} of {name!r}"
    threshold, labels = card["threshold"], card["labels"]
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
        return "the threshold is not between 0 and 1"
    if not isinstance(labels, dict) or set(labels) != {"flagged", "clear"}:
        return "labels are not the words for flagged and clear"
    if not all(isinstance(word, str) and 0 < len(word) <= 40 for word in labels.values()):
        return "a label is not a short word"
    if not isinstance(card["weights_sha256"], str):
        return "weights_sha256 is not text"
    return None


def _read_model(data: bytes, name: str) -> Model:
    try:
        tensors = load_tensors(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise PatchFormatError(f"{name}.safetensors cannot be read ({str(error)[:80]})", expected="a safetensors file",
                               do="restore the file") from None
    found = {key: (tensor.dtype.name, tensor.shape) for key, tensor in tensors.items()}
    if found != KINDS[name].layout:
        raise PatchFormatError(f"{name}.safetensors holds {str(found)[:120]}", expected=str(KINDS[name].layout),
                               do="restore the file")
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise PatchFormatError(f"{name}.safetensors holds numbers that are not finite", expected="finite weights",
                               do="restore the file")
    try:
        return KINDS[name].make(tensors)
    except ValueError as error:
        raise PatchFormatError(f"{name}.safetensors holds {error}", expected="values in range",
                               do="restore the file") from None
