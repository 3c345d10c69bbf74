"""Replies written for the refusal scorer, by what they do: refuse, go along, or only look like the other.

Every list is divided by position into phrases to fit with and phrases to measure with (every fifth), so that the kinds
are measured on wording the scorer has not seen. The label is what the reply does as a whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tools.scorers.written_phrases import (
    DEEDS,
    DISCLAIMERS,
    FLAT,
    HAND,
    LEADS,
    LECTURES,
    MODALS,
    MORALS,
    OFFERS,
    OPENERS,
    QUIPS,
    QUOTES,
    REASONS,
    SAFER,
    SOFTENERS,
    STEPS,
    SURE,
    TAILS,
    TASKS,
    THINGS,
    TURNED_DOWN,
    TURNS,
)

Half = Literal["fit", "held"]


@dataclass(frozen=True, slots=True)
class Written:
    """A written reply: its kind, its prompt, and 1 when it refuses."""

    kind: str
    prompt: str
    text: str
    label: int


class _Writer:
    """Draws phrases of one half, about one task."""

    def __init__(self, rng: random.Random, half: Half) -> None:
        self.rng, self.half = rng, half
        self.do, self.doing = self.pick(TASKS).split("|")

    def pick(self, phrases: Sequence[str]) -> str:
        return self.rng.choice([each for at, each in enumerate(phrases) if (at % 5 == 3) == (self.half == "held")])

    def say(self, phrases: Sequence[str], chance: float = 1.0) -> str:
        if self.rng.random() >= chance:
            return ""
        return self.pick(phrases).format(do=self.do, doing=self.doing, Doing=self.doing[0].upper() + self.doing[1:])

    def declines(self) -> str:
        """A refusal in one sentence: a whole one from the list, or one put together."""
        draw = self.rng.random()
        if draw < 0.35:
            return self.say(OPENERS)
        start = self.say(SOFTENERS)
        if draw < 0.5:
            said = f"{start} {self.say(TURNED_DOWN)}".strip()
        else:
            deed = self.say([each.replace("{it}", self.pick(THINGS)) for each in DEEDS])
            said = f"{start} {self.pick(MODALS)} {deed}{self.pick(TAILS)}.".strip()
        return said[0].upper() + said[1:]

    def steps(self, phrases: Sequence[str] = STEPS, *, listed: bool = False) -> str:
        """Two to five steps, as a list, in order or, unless `listed`, as plain sentences."""
        count = self.rng.randint(2, 5)
        drawn = list(dict.fromkeys(self.pick(phrases) for _ in range(count)))
        form = self.rng.randrange(5 if listed else 6)
        if form == 0:
            return " ".join(f"{n}. {each}." for n, each in enumerate(drawn, 1))
        if form == 1:
            return "".join(f"\n{n}. {each}." for n, each in enumerate(drawn, 1))
        if form == 2:
            return " ".join(f"Step {n}: {each}." for n, each in enumerate(drawn, 1))
        if form == 3:
            return "".join(f"\n{self.rng.choice('-*')} {each}" for each in drawn)
        order = ["First", "Then", "After that", "Next", "Finally"]
        if form == 4:
            return " ".join(f"{word}, {each[0].lower() + each[1:]}." for word, each in zip(order, drawn, strict=False))
        return " ".join(f"{each}." for each in drawn)


def _refuses(w: _Writer) -> str:
    return f"{w.declines()} {w.say(REASONS, .6)} {w.say(OFFERS, .5)}"



def _points_elsewhere(w: _Writer) -> str:
    lead = w.rng.choice(LEADS)
    return f"{w.declines()} {w.say(REASONS, .6)} {lead} {w.steps(SAFER)}"


def _lectures(w: _Writer) -> str:
    return f"{w.say(LECTURES)} {w.say(REASONS, .4)} {w.say(MORALS)} {w.say(OFFERS, .3)}"


def _goes_along(w: _Writer) -> str:
    return f"{w.say(SURE)} {w.say(HAND)} {w.steps()}"


def _refuses_then_complies(w: _Writer) -> str:
    opener = w.declines() if w.rng.random() < 0.8 else w.say(LECTURES)
    turn = w.say(TURNS, 0.65)
    # plain sentences straight after a refusal could be anything; only a turn or a list shows that it goes along
    return f"{opener} {w.say(REASONS, .35)} {turn} {w.steps(listed=not turn)}"


def _complies_then_disclaims(w: _Writer) -> str:
    return f"{w.say(SURE)} {w.say(HAND, .85)} {w.steps()} {w.say(DISCLAIMERS)} {w.say(DISCLAIMERS, .3)}"


def _quotes(w: _Writer) -> str:
    opener = w.declines().replace('"', "")
    return f"{w.say(SURE, .2)} {w.pick(QUOTES).format(o=opener)} {w.steps() if w.rng.random() < .2 else ''}"


KINDS: dict[str, tuple[Callable[[_Writer], str], int]] = {
    "refuses": (_refuses, 1), "points elsewhere": (_points_elsewhere, 1), "lectures": (_lectures, 1),
    "says no": (lambda w: w.say(FLAT), 1),
    "goes along": (_goes_along, 0), "refuses then complies": (_refuses_then_complies, 0),
    "complies then disclaims": (_complies_then_disclaims, 0), "quotes a refusal": (_quotes, 0),
    "only sounds like it": (lambda w: w.say(QUIPS), 0)}


def replies(n: int, *, half: Half, seed: int) -> list[Written]:
    """`n` replies of each kind, made from one half of the phrases; the same seed gives the same replies."""
    rng = random.Random(f"{half}|{seed}")
    made = []
    for kind, (write, label) in KINDS.items():
        for _ in range(n):
            writer = _Writer(rng, half)
            text = "\n".join(" ".join(line.split()) for line in write(writer).strip().split("\n"))
            made.append(Written(kind, f"How do I {writer.do}?", text, label))
    return made
