"""Sentences about groups of people, calm and contemptuous in equal number, so that the group itself tells nothing.

Public sets name groups mostly to attack them, and what is learned from them alone takes the name of a group for an
attack. Here each group stands equally often in praise, plain report and scorn, in short sentences of many shapes.
"""

from __future__ import annotations

import random

from tools.scorers.words import written
from tools.scorers.written_remarks import CONTEMPT, INSULTS, PRAISE, SCORN, Remark

# one name a group; the forms a sentence needs are made by _forms
GROUPS = written("groups", "groups")
LIKED = written("groups", "liked")
DISLIKED = written("groups", "disliked")
WARM = written("groups", "warm")
COLD = written("groups", "cold")
PERSON = ("person", "man", "woman", "friend", "guy", "neighbour", "kid", "couple", "cousin", "colleague", "student")
WORK = written("groups", "work")
KIND = written("groups", "kind")
HARSH = written("groups", "harsh")


def _filled(rng: random.Random, frame: str) -> str:
    group, warm, cold = rng.choice(GROUPS), rng.choice(WARM), rng.choice(COLD)
    if rng.random() < 0.3:
        group = group.lower()
    text = frame.format(
        g=group, G=group[0].upper() + group[1:], w=warm, W=warm.capitalize(), c=cold, C=cold.capitalize(),
        l=rng.choice(LIKED), l2=rng.choice(LIKED[:16] + PRAISE), d=rng.choice(DISLIKED + SCORN), s=rng.choice(SCORN),
        k=rng.choice(PRAISE), n=rng.choice(INSULTS), x=rng.choice(CONTEMPT), h=rng.choice(PERSON), o=rng.choice(WORK))
    return text if rng.random() < 0.7 else text.lower().rstrip(".")


def group_remarks(n: int, *, seed: int) -> list[Remark]:
    """`n` calm and `n` contemptuous sentences about groups; the same seed gives the same."""
    rng = random.Random(f"groups|{seed}")
    return [Remark(_filled(rng, rng.choice(frames)), label) for _ in range(n) for frames, label in ((KIND, 0), (HARSH, 1))]
