"""Whether text is still language: words that exist, no loops, no broken characters.

These are flags for damage, cheap enough for every reply; how probable a text is belongs to a model's perplexity.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LONG_RUN = re.compile(r"([^\s.\-_=*#~])\1{5,}")
UNKNOWN_SHARE = 0.34  # of the words; names and slips of the finger stay under it
LOOP = 4  # the same words this often in a row are a loop


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without numbers and marks."""
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """The share of different n-grams of words among all of them, over all texts; 1 for none (Li et al. 2016)."""
    grams = [gram for text in texts for gram in _ngrams(words_of(text), n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def repetition(text: str, n: int = 3) -> float:
    """The share of n-grams of words that appeared before in the text: 0 none, towards 1 a loop."""
    grams = _ngrams(words_of(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def gibberish(text: str, words: Container[str]) -> bool:
    """Whether a text is damaged, given the words (in lower case) that count as known. An empty text is not."""
    found = words_of(text)
    if _broken(text) or _loops(found):
        return True
    if not found:
        return len(text.strip()) > 20 and not any(mark.isdigit() for mark in text)
    unknown = sum(not _known(word, words) for word in found)
    # a single unknown word among a few is more likely a name than damage
    return (unknown > 1 and unknown / len(found) > UNKNOWN_SHARE) or (unknown == len(found) and len(found[0]) > 15)


def _known(word: str, words: Container[str]) -> bool:
    return word in words or word.partition("'")[0] in words or (word.endswith("s") and word[:-1] in words)


def _ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def _broken(text: str) -> bool:
    """Replacement characters, control characters, bytes read in the wrong encoding, one character without end."""
    if "\ufffd" in text or "Ã©" in text or "â€" in text or _LONG_RUN.search(text):
        return True
    return any(unicodedata.category(mark) in ("Cc", "Cs", "Co", "Cn") and mark not in "\n\t\r" for mark in text)


def _loops(words: list[str]) -> bool:
    """Whether some words come LOOP times in a row: one word, or a phrase of up to eight."""
    for size in range(1, 9):
        run = 0
        for at in range(size, len(words)):
            run = run + 1 if words[at] == words[at - size] else 0
            if run >= size * (LOOP - 1):
                return True
    return False
