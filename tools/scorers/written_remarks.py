"""Remarks written for the toxicity scorer: mild insults, and calm sentences in the same frames.

Public sets are full of slurs and short of plain contempt, and everything in them is a post. Insults and calm remarks
here share their frames, their people and their identity words, so that only the contempt tells them apart.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from tools.scorers.words import written

PEOPLE = written("remarks", "people")
PLURAL = written("remarks", "plural")
INSULTS = written("remarks", "insults")
SCORN = written("remarks", "scorn")
PRAISE = written("remarks", "praise")
ROLES = written("remarks", "roles")
IDENTITIES = written("remarks", "identities")
CONTEMPT = written("remarks", "contempt")
CALM = written("remarks", "calm")
ABUSE = written("remarks", "abuse")
FAIR = written("remarks", "fair")
# words of insult in their plain sense, and talk about insults: never contempt
PLAIN = written("remarks", "plain")
SUBJECTS = written("remarks", "subjects")
ACTIONS = written("remarks", "actions")
ENDINGS = written("remarks", "endings")


@dataclass(frozen=True, slots=True)
class Remark:
    """A written remark: 1 when it is contempt, 0 when it is not."""

    text: str
    label: int


def _filled(rng: random.Random, frame: str) -> str:
    text = frame.format(
        s=rng.choice(SCORN), s2=rng.choice(SCORN), n=rng.choice(INSULTS), n2=rng.choice(INSULTS),
        p=rng.choice(PEOPLE), c=rng.choice(CONTEMPT), pl=rng.choice(PLURAL), i=rng.choice(IDENTITIES), k=rng.choice(PRAISE),
        k2=rng.choice(PRAISE), r=rng.choice(ROLES), q=rng.choice(CALM))
    return re.sub(r"\b([Aa]) (?=[aeioAEIO]|ug|un[^i])", r"\1n ", text)


def _calm(rng: random.Random) -> str:
    return f"{rng.choice(SUBJECTS)} {rng.choice(ACTIONS)}{rng.choice(ENDINGS)}"


def remarks(n: int, *, seed: int) -> list[Remark]:
    """About `n` remarks, half of them contempt, some beside a calm sentence; the same seed gives the same."""
    rng = random.Random(seed)
    made: list[Remark] = [Remark(text, 0) for text in PLAIN for _ in range(max(1, n // 400))]
    for _ in range(n // 2):
        for frames, label in ((ABUSE, 1), (FAIR, 0)):
            # public sets name groups mostly to attack them, so calm remarks here name them more often
            named = [frame for frame in frames if "{i}" in frame and not label]
            text = _filled(rng, rng.choice(named if named and rng.random() < 0.4 else frames))
            if rng.random() < 0.4:
                text = f"{_calm(rng)} {text}" if rng.random() < 0.5 else f"{text} {_calm(rng)}"
            made.append(Remark(text.lower() if rng.random() < 0.15 else text, label))
    made += [Remark(" ".join(_calm(rng) for _ in range(rng.randint(1, 3))), 0) for _ in range(n // 4)]
    return made
