"""Questions with replies whose refusal has no stock phrase, beside answers that deny, correct, warn or know nothing.

What the reply does can often be told from the question only: who says that no group is lazy declines to defend a prejudice,
who says that bats are not blind answers. Every list is divided as in `written_replies`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tools.scorers.words import written
from tools.scorers.written_groups import GROUPS
from tools.scorers.written_replies import Half, Written


class _Writer:
    """Draws from the lists of one half, and fills a frame with what was drawn."""

    def __init__(self, rng: random.Random, half: Half) -> None:
        self.rng, self.half = rng, half

    def pick(self, name: str) -> str:
        listed = enumerate(written("exchanges", name))
        return self.rng.choice([each for at, each in listed if (at % 5 == 3) == (self.half == "held")])

    def fill(self, name: str, **given: str) -> str:
        upper = {key.capitalize(): value[0].upper() + value[1:] for key, value in given.items()}
        return self.pick(name).format(**given, **upper)


def _crime(w: _Writer) -> tuple[str, str]:
    do, doing, why = w.pick("crimes").split("|")
    given = {"do": do, "doing": doing, "why": why}
    said = w.fill("terse", **given) if w.rng.random() < 0.35 else ""
    if not said or w.rng.random() < 0.5:
        said = f"{said} {w.fill('why', **given)}"
    if len(said) > 60 and w.rng.random() < 0.6:
        said = f"{said} {w.pick('redirect')}" if w.rng.random() < 0.7 else f"{w.pick('redirect')} {said}"
    return w.fill("asks", **given), said


def _hate(w: _Writer) -> tuple[str, str]:
    given = {"g": w.rng.choice(GROUPS), "bad": w.pick("bad"), "right": w.pick("right")}
    more = f" {w.fill('hate_denied', **given)}" if w.rng.random() < 0.4 else ""
    return w.fill("hate_asks", **given), w.fill("hate_denied", **given) + more


def _private(w: _Writer) -> tuple[str, str]:
    return w.pick("private_asks"), w.pick("private_denied")


def _corrects(w: _Writer) -> tuple[str, str]:
    thing, wrong, fact = w.pick("things").split("|")
    named = thing.split()[0] in ("Mount", "Mozart", "Canada", "Venus", "Shakespeare", "Vikings")
    given = {"t": thing if named else thing[0].lower() + thing[1:], "wrong": wrong, "fact": fact}
    return w.fill("thing_asks", **given), w.fill("thing_denied", **given)


def _fictional(w: _Writer) -> tuple[str, str]:
    given = {"f": w.pick("figures"), "data": w.pick("data")}
    return w.pick("figure_asks").format(**given), w.pick("figure_denied").format(**given)


def _defines(w: _Writer) -> tuple[str, str]:
    term, meaning = w.pick("terms").split("|")
    said = w.rng.choice((f"{term} is {meaning}.", f"{term} means {meaning}.", f"{term}: {meaning}."))
    return w.fill("term_asks", t=term.lower()), f"{said} {w.pick('warned')}"


def _warns(w: _Writer) -> tuple[str, str]:
    do, why = w.pick("risky").split("|")
    return w.fill("risky_asks", do=do, why=why), w.fill("risky_answered", do=do, why=why)


def _explains(w: _Writer) -> tuple[str, str]:
    do, why = w.pick("sounds").split("|")
    return w.fill("asks", do=do, doing=do, why=why), w.fill("sound_answered", do=do, why=why)


def _unheard_of(w: _Writer) -> tuple[str, str]:
    return w.pick("future_asks"), w.pick("future_answered")


KINDS: dict[str, tuple[Callable[[_Writer], tuple[str, str]], int]] = {
    "warns of the harm": (_crime, 1), "rejects a prejudice": (_hate, 1), "keeps a secret": (_private, 1),
    "corrects a premise": (_corrects, 0), "knows nothing of a figure": (_fictional, 0), "defines and warns": (_defines, 0),
    "advises against a risk": (_warns, 0), "explains what only sounds bad": (_explains, 0), "never happened": (_unheard_of, 0)}
SHARES = {"warns of the harm": 3, "keeps a secret": 0.3, "never happened": 0.3}  # of `n`; the others count once


def exchanges(n: int, *, half: Half, seed: int) -> list[Written]:
    """About `n` replies of each kind; the same seed gives the same."""
    rng = random.Random(f"exchanges|{half}|{seed}")
    found = []
    for kind, (write, label) in KINDS.items():
        for _ in range(round(n * SHARES.get(kind, 1))):
            prompt, text = write(_Writer(rng, half))
            found.append(Written(kind, prompt, text.strip(), label))
    return found
