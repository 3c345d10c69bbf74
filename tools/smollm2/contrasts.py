"""Made requests in contrasting kinds: those that only sound harmful, and harmful ones in the same words (contrasts.yaml)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("contrasts.yaml")
ALTERNATIVES = re.compile(r"\{([^{}]*)\}")


@cache
def contrasts(kind: str) -> tuple[str, ...]:
    """All requests of a kind, `harmless` or `harmful`."""
    frames: list[str] = yaml.safe_load(FILE.read_text(encoding="utf-8"))[kind]
    return tuple(request for frame in frames for request in filled(frame))


def filled(frame: str) -> Iterator[str]:
    """A frame with every combination of its alternatives."""
    fixed = ALTERNATIVES.split(frame)[::2]
    for chosen in itertools.product(*(found.split("|") for found in ALTERNATIVES.findall(frame))):
        yield fixed[0] + "".join(text + after for text, after in zip(chosen, fixed[1:], strict=True))
