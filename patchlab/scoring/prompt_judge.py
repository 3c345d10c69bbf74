"""What a user's message asks for: something harmful, something harmless, or help in a crisis; or that the judge cannot tell.

The judge is a linear head with three outputs on the sentence encoder's vectors of the message. Between its thresholds it says
unclear, and outside for a message without words or in a language that it was not fitted on. Messages that `crisis` recognises
count as a crisis whatever the head says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from patchlab.errors import PatchFormatError
from patchlab.scoring.answer import check_texts, has_text
from patchlab.scoring.crisis import looks_like_crisis
from patchlab.scoring.encoder import FOLDER, PROMPTS, Floats, read_files, tuned_encoder
from patchlab.scoring.language import judged
from patchlab.scoring.sentence_encoder import DIGESTS, SentenceEncoder, encoder_folder
from patchlab.scoring.spelling import undisguised

PromptLabel = Literal["harmless", "harmful", "crisis", "unclear", "outside"]
CLASSES = ("harmless", "harmful", "crisis")
PART, MOST = 80, 8  # words of a part of a long message, and parts that are read


@dataclass(frozen=True, slots=True)
class PromptScore:
    """What a message asks for, and the chances that it is harmful (if no crisis) and a crisis; NaN where not judged."""

    label: PromptLabel
    harmful: float
    crisis: float


@dataclass(frozen=True)
class PromptJudge:
    """A head [3, F] with bias [3] over vectors; thresholds `harmful` (from), `harmless` (up to) and `crisis` (from)."""

    digest: str
    thresholds: Mapping[str, float]
    weights: Floats
    bias: Floats
    encoder: Callable[[], SentenceEncoder] = tuned_encoder  # called at the first message
    name: str = PROMPTS

    def score(self, prompts: Sequence[str]) -> list[PromptScore]:
        """One PromptScore a message, in order. Raises InputError, MissingExtraError, TamperedError."""
        check_texts(prompts, None)
        plain = [undisguised(text) if has_text(text) else "" for text in prompts]
        return [self._one(text) if text and judged(text) else PromptScore(
            "crisis" if looks_like_crisis(text) else "outside", float("nan"), float("nan")) for text in plain]

    def chances(self, text: str) -> tuple[float, float]:
        """The chances of harmful and of crisis, each by the worst part of a message."""
        rows = self.encoder().vectors(parts(text)) @ self.weights.T + self.bias
        harmful = 1 / (1 + np.exp(rows[:, 0] - rows[:, 1]))
        crisis = np.exp(rows[:, 2] - np.logaddexp.reduce(rows, axis=1))
        return float(harmful.max()), float(crisis.max())

    def _one(self, text: str) -> PromptScore:
        harmful, crisis = self.chances(text)
        if crisis >= self.thresholds["crisis"] or looks_like_crisis(text):
            return PromptScore("crisis", harmful, crisis)
        label: PromptLabel = ("harmful" if harmful >= self.thresholds["harmful"] else
                              "harmless" if harmful <= self.thresholds["harmless"] else "unclear")
        return PromptScore(label, harmful, crisis)


def parts(text: str) -> list[str]:
    """A message as the judge reads it: whole, or a long one in parts of PART words, the first and the last ones."""
    words = text.split()
    if len(words) <= PART:
        return [text]
    found = [" ".join(words[at:at + PART]) for at in range(0, len(words), PART)]
    return found if len(found) <= MOST else [*found[:MOST // 2], *found[-MOST // 2:]]


@cache
def prompt_judge() -> PromptJudge | None:
    """The shipped judge, or None where the encoder is not installed. Raises NotFoundError, PatchFormatError, TamperedError."""
    return load_prompt_judge() if encoder_folder() else None


def load_prompt_judge(folder: Path = FOLDER) -> PromptJudge:
    """The judge of a folder; the encoder is loaded at the first message.

    Raises NotFoundError, PatchFormatError, TamperedError.
    """
    card, tensors = read_files(folder)
    thresholds = card["prompts"]
    weights, bias = tensors[f"{PROMPTS}.weights"], tensors[f"{PROMPTS}.bias"]
    known = set(thresholds) == {"harmful", "harmless", "crisis"} and all(0 < each < 1 for each in thresholds.values())
    if not known or weights.ndim != 2 or len(weights) != len(CLASSES) or bias.shape != (len(CLASSES),):
        raise PatchFormatError(f"{PROMPTS} has weights {weights.shape} and thresholds {str(thresholds)[:80]}",
                               expected="[3, F] and three numbers between 0 and 1", do="restore the files")
    identity = json.dumps([PROMPTS, thresholds, card["weights_sha256"], DIGESTS], sort_keys=True)
    return PromptJudge(hashlib.sha256(identity.encode()).hexdigest(), thresholds, weights, bias)
