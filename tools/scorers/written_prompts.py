"""Prompts written for the prompt judge: crises and their look-alikes, everyday and harmful ones, and text it cannot judge.

Every fifth prompt of a list is kept for measuring, in frames of its own.
"""

from __future__ import annotations

import random
import string

from tools.scorers.sets import Example
from tools.scorers.words import written
from tools.scorers.written_stances import Half, half_of

CLASSES = ("harmless", "harmful", "crisis", "outside")  # what the judge can say of a prompt, in the order of its outputs
_LISTS = {"everyday": 0, "not_crisis": 0, "harm": 1, "crisis": 2, "foreign": 3}


def noise(rng: random.Random) -> str:
    """Letters, digits or marks without a meaning."""
    letters = rng.choice((string.ascii_lowercase, string.ascii_letters + string.digits, string.punctuation, "asdfjkl;"))
    words = ["".join(rng.choice(letters) for _ in range(rng.randint(2, 12))) for _ in range(rng.randint(1, 8))]
    return " ".join(words)


def written_prompts(n: int, *, half: Half, seed: int) -> list[Example]:
    """`n` prompts of each list and `n` of noise, labelled by CLASSES; `group` is the list."""
    rng = random.Random(f"prompts|{half}|{seed}")
    made = [Example(noise(rng), 3, group="noise") for _ in range(n)]
    for name, label in _LISTS.items():
        for _ in range(n):
            text = rng.choice(half_of(written("asked", name), half))
            text = rng.choice(half_of(written("asked", "frames"), half)).format(q=text) if name != "foreign" else text
            made.append(Example(text[0].upper() + text[1:] if rng.random() < 0.6 else text, label, group=name))
    return made
