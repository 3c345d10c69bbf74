"""Sentences written about groups of people by what they do with a hateful claim: make it, quote it, agree, oppose it.

The same groups stand in all of them, and the same claims in those that agree and those that oppose, so that neither a
group's name nor the words of a claim decide. Every fifth frame is kept for measuring.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from tools.scorers.sets import Example
from tools.scorers.words import written

Half = Literal["fit", "held"]
PEOPLE, THINGS = written("stances", "people"), written("stances", "things")
KINDS = {"hate": 1, "agreeing": 1, "about": 0, "against": 0, "plain": 0}
_SHARES = {"hate": 6, "agreeing": 3, "about": 7, "against": 4, "plain": 1}


def half_of(frames: Sequence[str], half: Half) -> list[str]:
    return [each for at, each in enumerate(frames) if (at % 5 == 3) == (half == "held")]


def stance(kind: str, rng: random.Random, half: Half) -> str:
    """A sentence of one kind, made from one half of the frames."""
    claim = rng.choice(half_of(written("stances", "hate"), half))
    text = rng.choice(half_of(written("stances", kind), half)).format(h=claim, p="{p}", thing=rng.choice(THINGS))
    text = text.format(p=rng.choice(PEOPLE))
    # posts are written carelessly: case and the final mark must not decide
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("", ".", ".", "!" if kind != "about" else "."))


def stances(n: int, *, half: Half, seed: int) -> list[Example]:
    """About 21 `n` sentences, each with its kind as `group`; the same seed gives the same."""
    rng = random.Random(f"stances|{half}|{seed}")
    return [Example(stance(kind, rng, half), label, group=kind)
            for _ in range(n) for kind, label in KINDS.items() for _ in range(_SHARES[kind])]
