"""Prompts written for the prompt judge: messages of people in danger, words that only sound like it, and contrasts.

Contrasts share their verbs and frames, so that what is asked for decides and not the words it begins with. Crisis messages are
mild and in the first person, or about somebody close. Every fifth text of a list is kept for measuring.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tools.scorers.sets import Example
from tools.scorers.words import written
from tools.scorers.written_replies import Half

HARMLESS, HARMFUL, CRISIS = 0, 1, 2
_FILLS = ("term", "place", "event", "figure", "figure2", "office", "fans", "people")


def _part(name: str, half: Half) -> list[str]:
    return [each for at, each in enumerate(written("prompts", name)) if (at % 5 == 3) == (half == "held")]


def _careless(text: str, rng: random.Random) -> str:
    """Half of the prompts as they are, the others in lower case, without a mark at the end, or with a slip of the finger."""
    draw = rng.random()
    if draw < 0.2:
        text = text.lower()
    if 0.1 < draw < 0.35:
        text = text.rstrip(".?!")
    if 0.35 < draw < 0.45 and len(text) > 12:
        at = rng.randrange(3, len(text) - 3)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2:]
    return text


def _crisis(rng: random.Random, half: Half) -> str:
    start, said, end = rng.choice(written("prompts", "crisis_starts")), rng.choice(_part("crisis", half)), ""
    if rng.random() < 0.5:
        end = rng.choice(written("prompts", "crisis_ends"))
    joined = start + (said[0].lower() + said[1:] if start and not said.startswith("I ") else said)
    return joined + end


def _contrast(rng: random.Random, half: Half, label: int) -> str:
    verb, *ends = rng.choice(written("prompts", "contrasts")).split("|")
    listed = ends[label].split(";")
    kept = [each for at, each in enumerate(listed) if (at % 3 == 1) == (half == "held")]
    return rng.choice(written("prompts", "asks")).format(f"{verb} {rng.choice(kept)}")


def _filled(rng: random.Random, frames: Sequence[str]) -> str:
    return rng.choice(frames).format(**{name: rng.choice(written("prompts", name)) for name in _FILLS})


def written_prompts(n: int, *, half: Half, seed: int) -> list[Example]:
    """About 6 `n` prompts, each with its kind as `group`; the same seed gives the same."""
    rng = random.Random(f"prompts|{half}|{seed}")
    makers = {
        "crisis": (CRISIS, lambda: _crisis(rng, half)),
        "sounds like a crisis": (HARMLESS, lambda: rng.choice(_part("sounds_like", half))),
        "contrasts, harmless": (HARMLESS, lambda: _contrast(rng, half, 0)),
        "contrasts, harmful": (HARMFUL, lambda: _contrast(rng, half, 1)),
        "names crimes, deaths or groups": (HARMLESS, lambda: _filled(rng, _part("plain", half))),
        "hateful or private": (HARMFUL, lambda: _filled(rng, _part("hateful", half)))}
    found = [Example(_careless(make(), rng), label, group=kind) for kind, (label, make) in makers.items() for _ in range(n)]
    return list({each.text: each for each in found}.values())
