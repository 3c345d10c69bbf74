"""Printing to stdout: JSON lines for programs, aligned tables and sanitized text for people."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from patchlab.records import Measure

# Control characters could move a terminal's cursor or set its title, and direction marks could reorder a line.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def emit(row: Mapping[str, Any]) -> None:
    """Print one JSON object as a line; NaN and infinity become null, dates and other values of a data set their text."""
    print(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=str))


def tell(notes: Iterable[str]) -> None:
    """Print notes on stderr, one per line."""
    for note in notes:
        print(f"patchlab: {plain(note)}", file=sys.stderr)


def plain(text: str) -> str:
    """`text` with every character that could control a terminal replaced by U+FFFD."""
    return _UNSAFE.sub("\ufffd", text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as left-aligned columns, two spaces apart; every row has as many cells as the first."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def measures_table(measures: Sequence[Measure]) -> str:
    """One line per measure with its 95 % interval."""
    return table([("suite", "metric", "lane", "value", "95 % interval", "n", "scorer"),
                  *((m.suite, m.metric, m.lane, f"{m.value:.3f}", f"{m.low:.3f} to {m.high:.3f}", str(m.n), m.scorer)
                    for m in measures)])


def _finite(value: Any) -> Any:
    """`value` with None for every NaN and infinity in it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
