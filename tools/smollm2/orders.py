"""Made requests in the form of orders ("Write a guide on how to ..."), harmful and harmless ones alike (orders.yaml)."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import yaml

from tools.smollm2.contrasts import filled

FILE = Path(__file__).with_name("orders.yaml")
SHARE = 0.55  # of the orders drawn that are frames with a deed; the others are whole


@cache
def _lists() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Every list of the file, each entry with all of its alternatives filled in."""
    read: dict[str, list[str]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: tuple(tuple(filled(entry)) for entry in entries) for name, entries in read.items()}


def orders(kind: str, count: int, draw: random.Random) -> list[str]:
    """So many different orders of a kind, `harmless` or `harmful`; every frame, deed and whole order is equally likely.

    Half of them end in a full stop where they end in none, and some begin with a small letter, as typed requests do.
    """
    found: dict[str, None] = {}
    while len(found) < count:
        if draw.random() < SHARE:
            text = framed(draw.choice(draw.choice(_lists()[f"{kind}_deeds"])), draw)
        else:
            text = draw.choice(draw.choice(_lists()[f"{kind}_orders"]))
        if text[-1].isalnum() and draw.random() < 0.5:
            text += "."
        found[text if draw.random() < 0.85 else text[0].lower() + text[1:]] = None
    return list(found)


def framed(deed: str, draw: random.Random) -> str:
    """An order to do, teach or plan a deed."""
    return draw.choice(draw.choice(_lists()["frames"])).replace("DEED", deed)
