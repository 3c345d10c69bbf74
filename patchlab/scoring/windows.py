"""A text in windows, so that one insult counts as much among calm sentences as alone.

A window is a sentence, quotations undivided, or a part of a very long one. There are at most MOST of them: of a longer text each
window holds several sentences, and what exceeds MOST windows of LONGEST words is left out in the middle.
"""

from __future__ import annotations

import re

from patchlab.scoring.refusal_patterns import QUOTED

MOST = 24
LONGEST, PART = 120, 40  # words of a window, and of a part of a sentence that has no end
_END = re.compile(r"(?<=[.!?…])[\"”'’)\]*_]*\s+(?=\S)|\s*\n+\s*")
_SHORT = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|[Mm]rs?|[Mm]s|[Dd]r|[Pp]rof|[Ss]t|vs|e\.g|i\.e|etc|[Nn]o|\d+)\.$")  # not an end
READ = 60_000  # characters; the beginning and the end of a longer text


def windows(text: str) -> list[str]:
    """The windows of a text in order; the text itself where it has one sentence."""
    if len(text) > READ:
        text = f"{text[:READ // 2]}\n{text[-READ // 2:]}"
    found = [part for sentence in _sentences(text) for part in _parts(sentence)]
    if len(found) > MOST:
        each = -(-len(found) // MOST)
        found = [_shortened(" ".join(found[at:at + each])) for at in range(0, len(found), each)]
    return found or [text]


def _sentences(text: str) -> list[str]:
    text = text.strip()
    quoted = [found.span() for found in QUOTED.finditer(text)]
    found, at = [], 0
    for end in _END.finditer(text):
        inside = any(start < end.start() < stop - 1 for start, stop in quoted)
        if not inside and not _SHORT.search(text[max(at, end.start() - 12):end.start()]):
            found.append(text[at:end.end()].strip())
            at = end.end()
    return [each for each in (*found, text[at:].strip()) if any(letter.isalnum() for letter in each)]


def _parts(sentence: str) -> list[str]:
    words = sentence.split()
    if len(words) <= LONGEST:
        return [sentence]
    return [" ".join(words[at:at + PART]) for at in range(0, len(words), PART)]


def _shortened(window: str) -> str:
    words = window.split()
    return window if len(words) <= LONGEST else " ".join((*words[:LONGEST // 2], *words[-LONGEST // 2:]))
