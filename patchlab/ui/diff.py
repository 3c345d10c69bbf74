"""Which words of one text differ from another, as escaped HTML."""

from __future__ import annotations

import difflib
import html
import re
import unicodedata

_PIECES = re.compile(r"\s+|\w+(?:['’]\w+)*|[^\w\s]")


def pieces(text: str) -> list[str]:
    """A text cut into words, marks and the space between them; joined again they are the text."""
    return _PIECES.findall(text)


def visible(text: str) -> str:
    """The text with control characters shown as a replacement sign, so that no reply can hide or reorder anything."""
    return "".join(char if char in "\n\t" or not _hides(char) else "\ufffd" for char in text)


def _hides(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") or char in _DIRECTIONS


# explicit direction overrides could make a reply read differently from what was scored
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def escaped(text: str) -> str:
    """Model or visitor text made safe to place in HTML."""
    return html.escape(visible(text))


def coded(words: str) -> str:
    """A sentence made safe to place in HTML, with what stands between backticks as code."""
    return "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(escaped(words).split("`")))


def changed(before: str, after: str) -> list[tuple[str, bool]]:
    """`after` as runs of (text, differs from `before`).

    Space between two changed words belongs to the change, so that a changed phrase is one run and not many.
    """
    old, new = pieces(visible(before)), pieces(visible(after))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    same = [False] * len(new)
    for block in matcher.get_matching_blocks():
        same[block.b : block.b + block.size] = [True] * block.size
    for index, piece in enumerate(new):
        if not piece.isspace():
            continue
        inside = 0 < index < len(new) - 1 and not same[index - 1] and not same[index + 1]
        same[index] = not inside
    runs: list[tuple[str, bool]] = []
    for piece, equal in zip(new, same, strict=True):
        if runs and runs[-1][1] is not equal:
            runs[-1] = (runs[-1][0] + piece, runs[-1][1])
        else:
            runs.append((piece, not equal))
    return runs


def marked(before: str, after: str) -> str:
    """`after` as HTML in which every run that differs from `before` is a <mark>."""
    return "".join(
        f'<mark class="changed">{html.escape(text)}</mark>' if differs else html.escape(text)
        for text, differs in changed(before, after)
    )
