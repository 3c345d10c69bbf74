"""How long does it take to score a reply? `python -m benchmarks.speed.scoring [--quick]`

One reply of forty words by each embedded scorer (bar 1 ms: the page scores three columns while they are written), and the
same in a batch of a hundred. Seconds on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.speed.timing import Figure, command, milliseconds, race
from patchlab.scoring import load_scorer

EMBEDDED = ("toxicity", "toxicity-2", "refusal", "refusal-2")
REPLY = ("The committee met on Tuesday to discuss the budget, and most members agreed that the new library should open in "
         "spring. Some asked for longer hours, while others wanted a quiet room for students who study late at night.")
BATCH = 100


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    repeats, turns = (2, 2) if quick else (15, 40)
    found = []
    for name in EMBEDDED:
        score = load_scorer(name).score
        taken = race({"one": lambda score=score: lambda: score([REPLY])}, repeats=repeats, turns=turns)
        many = race({"batch": lambda score=score: lambda: score([REPLY] * BATCH)}, repeats=repeats)
        one = [1000 * seconds / turns for seconds in taken["one"]]
        found += [Figure.of(f"{name}: one reply of forty words", one, unit="ms", bar="<= 1"),
                  milliseconds(f"{name}: a reply in a batch of {BATCH}", many, "batch", turns=BATCH)]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bar is met."""
    return command(__doc__ or "", "scoring", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
