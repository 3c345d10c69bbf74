"""Text as a sequence of hashed n-grams with positions, which the second scorers read; the first ones read a bag of them.

A piece is a word by two names, its beginning and its end, each hashed into a row of a table of learned vectors, and a
place: which sentence it stands in, or inside quotation marks. Names of groups of people are all the same piece.
Changing anything here changes `probe`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.features import spelled, tokens
from patchlab.scoring.refusal_patterns import QUOTED
from patchlab.scoring.toxicity_features import GROUP, GROUPS

Pieces = tuple[NDArray[np.int64], NDArray[np.int64]]

NAMES, PLACES = 4, 8  # table rows a piece, and kinds of place
QUOTED_PLACE = PLACES - 1
LONGEST = 400  # pieces; of a longer text the beginning and the end are read
NUMBER, BREAK = "§number", "§break"

_BREAK = re.compile(r"(?<=[.!?…:])[\"”'’)\]*]*\s+(?=\S)|\n+")
_LONG_WORD = 32


def words(text: str) -> list[tuple[str, int]]:
    """The words and marks of a text in order, each with its place: sentence 0 to 6, or QUOTED_PLACE."""
    text = text.strip()
    spans = [found.span() for found in QUOTED.finditer(text)]
    if len(spans) == 1 and spans[0] == (0, len(text)):
        spans = []  # marks around the whole text are not a quotation
    found: list[tuple[str, int]] = []
    at = sentence = 0
    for start, end in [*spans, (len(text), len(text))]:
        for k, part in enumerate(_BREAK.split(text[at:start])):
            if k:
                sentence += 1
                found.append((BREAK, min(sentence, QUOTED_PLACE - 1)))
            found += [(_meant(word), min(sentence, QUOTED_PLACE - 1)) for word in tokens(part)]
        found += [(_meant(word), QUOTED_PLACE) for word in tokens(text[start:end])]
        at = end
    return found


def _meant(word: str) -> str:
    if word in GROUPS:
        return GROUP
    return NUMBER if word.isdigit() else spelled(word)


@lru_cache(maxsize=20_000)
def _rows(word: str, size: int) -> tuple[int, ...]:
    # two names a word: two words that share one row rarely share the other
    names = (f"1~{word}", f"2~{word}", f"^{word[:4]}", f"${word[-3:]}")
    return tuple(crc32(name.encode("utf-8", "replace")) % size for name in names)


def pieces(text: str, size: int) -> Pieces:
    """The rows [T, NAMES] of a table of `size` and the places [T] of a text's pieces; T is 0 for a text without any."""
    found = words(text)
    if len(found) > LONGEST:
        found = found[:LONGEST // 2] + found[-LONGEST // 2:]
    rows = np.array([_rows(word[:_LONG_WORD], size) for word, _ in found], np.int64).reshape(len(found), NAMES)
    return rows, np.array([place for _, place in found], np.int64)
