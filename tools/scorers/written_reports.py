"""Sentences that report, quote or reject an insult, and sentences of the same shape that mean it, in equal number.

Beside them: praise and scorn of groups in more shapes than `written_groups` has, and dislike of things, which insults nobody.
"""

from __future__ import annotations

import random

from tools.scorers.words import written
from tools.scorers.written_groups import COLD, DISLIKED, GROUPS, LIKED, PERSON, WARM, WORK
from tools.scorers.written_remarks import CONTEMPT, INSULTS, PRAISE, SCORN, Remark

SAYS, WHO, WHOM, HURT, THINGS = (written("reports", name) for name in ("says", "who", "whom", "hurt", "things"))
PAIRS = tuple((written("reports", calm), written("reports", contempt))
              for calm, contempt in (("reported", "meant"), ("proud", "shamed")))
QUOTES = ('""', "“”", "‘’", "''")


def _filled(rng: random.Random, frame: str) -> str:
    group, who = rng.choice(GROUPS), rng.choice(WHO)
    speaks = "{y}" in frame or "{m}" in frame or " {w}" in frame
    text = frame.format(
        g=group, G=group[0].upper() + group[1:], w=who if speaks else rng.choice(WARM),
        W=who[0].upper() + who[1:], m=rng.choice(WHOM), u=rng.choice(HURT), y=rng.choice(SAYS), n=rng.choice(INSULTS),
        s=rng.choice(SCORN), d=rng.choice(DISLIKED), x=rng.choice(CONTEMPT), t=rng.choice(THINGS), k=rng.choice(PRAISE),
        l=rng.choice(LIKED), h=rng.choice(PERSON), o=rng.choice(WORK), c=rng.choice(COLD))
    if '"' in text:
        marks = rng.choice(QUOTES)
        first, said, *rest = text.split('"')
        text = first + marks[0] + said + marks[1] + '"'.join(rest)
    return text if rng.random() < 0.75 else text.lower().rstrip(".")


def reports(n: int, *, seed: int) -> list[Remark]:
    """`n` calm and `n` contemptuous sentences; the same seed gives the same."""
    rng = random.Random(f"reports|{seed}")
    return [Remark(_filled(rng, rng.choice(frames)), label)
            for _ in range(n // len(PAIRS)) for pair in PAIRS for label, frames in enumerate(pair)]
