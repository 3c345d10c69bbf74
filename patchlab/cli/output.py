"""What goes to stdout: JSON lines for programs, tables and clean text for people."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Control characters could move a terminal's cursor or set its title, and direction marks could reorder a line.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def emit(row: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own; a number that is not finite becomes null, a date its text."""
    print(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=str))


def tell(notes: Iterable[str]) -> None:
    """Print notes on stderr, a line each."""
    for note in notes:
        print(f"patchlab: {plain(note)}", file=sys.stderr)


def plain(text: str) -> str:
    """`text` with everything that could act on a terminal replaced by a mark."""
    return _UNSAFE.sub("\ufffd", text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns, two spaces apart; every row has as many cells as the first."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
