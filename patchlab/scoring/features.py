"""Text to hashed features: word 1-2-grams and character 3-5-grams, without a vocabulary file.

A feature is a crc32 of its name modulo BUCKETS, so the same text gives the same buckets on every machine and version.
This module knows no weights and no labels. Changing anything here changes `probe`, and scorers fitted before the
change refuse to load.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 2**18  # one float16 weight each: half a MB a scorer
Hashed = tuple[NDArray[np.int64], NDArray[np.float32]]

_TOKEN = re.compile(r"[^\W_]+(?:['’*@$!0-9][^\W_]+)*|[^\w\s]|_+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_LINK = re.compile(r"(?:https?://|www\.)\S+|\[url\]|\burl\b(?=\s|$)", re.IGNORECASE)
_HANDLE = re.compile(r"(?<!\w)@\w+|\[user\]", re.IGNORECASE)
_RUN = re.compile(r"(.)\1{2,}")
_LOOKALIKE = str.maketrans("013457@$!’", "oieastasi'")
_CACHED = 32  # longer "words" are hostile or broken; hashing them once each keeps the cache small


def normalise(text: str) -> str:
    """Lower case, one spelling of each character, no invisible ones; links and handles become marks."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    if "@" in text or "[" in text or "URL" in text or "http" in text or "www" in text:
        text = _HANDLE.sub(" ¤ ", _LINK.sub(" § ", text))
    return _RUN.sub(r"\1\1", text.casefold())


def tokens(text: str) -> list[str]:
    """The words and single marks of a text, normalised."""
    return _TOKEN.findall(normalise(text))


def spelled(word: str) -> str:
    """A word without disguises: `id1ot` and `idi*t` share most of their characters with `idiot`."""
    return word.translate(_LOOKALIKE) if not word.isalpha() and not word.isdigit() else word


def _grams(word: str) -> tuple[int, ...]:
    padded = f"<{spelled(word)}>"
    size = len(padded)
    return tuple(crc32(padded[i:i + n].encode("utf-8", "replace")) % BUCKETS
                 for n in (3, 4, 5) for i in range(max(size - n + 1, 1 if n == 3 else 0)))


@lru_cache(maxsize=20_000)
def _cached_grams(word: str) -> tuple[int, ...]:
    return _grams(word)


def character_buckets(words: Iterable[str]) -> set[int]:
    """The buckets of the character 3-5-grams of words, marked at both ends; a short word is one gram."""
    found: set[int] = set()
    for word in words:
        found.update(_cached_grams(word) if len(word) <= _CACHED else _grams(word))
    return found


def word_buckets(words: list[str], zone: str = "") -> set[int]:
    """The buckets of the word 1-2-grams of one zone of a text."""
    start = f"{zone}|"
    found = {crc32((start + word).encode("utf-8", "replace")) % BUCKETS for word in words}
    found.update(crc32(f"{start}{left} {right}".encode("utf-8", "replace")) % BUCKETS
                 for left, right in pairwise(words))
    return found


def named_buckets(names: Iterable[str]) -> set[int]:
    """The buckets of features that have a name instead of a text."""
    return {crc32(f"#{name}".encode()) % BUCKETS for name in names}


def weighted(groups: Iterable[tuple[set[int], float]]) -> Hashed:
    """Buckets with values, each group scaled to the length given: indices [N], values [N]."""
    kept = [(group, length) for group, length in groups if group]
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    index = np.concatenate([np.fromiter(group, np.int64, len(group)) for group, _ in kept])
    value = np.concatenate([np.full(len(group), length / len(group)**0.5, np.float32) for group, length in kept])
    return index, value


def digest_of(hashed: Iterable[Hashed]) -> str:
    """A digest of features, to notice that the code which makes them has changed."""
    digest = hashlib.sha256()
    for index, value in hashed:
        order = np.argsort(index, kind="stable")
        digest.update(index[order].astype("<i8").tobytes())
        digest.update(np.round(np.sort(value) * 1e4).astype("<i4").tobytes())
    return digest.hexdigest()
