"""Pairs: for a prompt, a reply to prefer over another; every candidate that makes none is counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from patchlab.errors import TrainingError
from patchlab.records import Pair
from patchlab.training.candidates import Candidate


def make_pairs(candidates: Sequence[Candidate], *, margin: float, winner: float) -> tuple[list[Pair], Counter[str]]:
    """For each prompt the best reply of the reference over each worse one of the base, where both thresholds hold.

    Without any reference lane the base's own replies are ranked. Returns the pairs and a tally of kept and dropped prompts.
    """
    by_prompt: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_prompt.setdefault(candidate.prompt.text, []).append(candidate)
    pairs: list[Pair] = []
    tally: Counter[str] = Counter()
    for found in by_prompt.values():
        safer = [c for c in found if c.lane == "reference" and c.text] or [c for c in found if c.text]
        if not safer:
            tally["empty reply"] += 1
            continue
        best = min(safer, key=lambda c: c.bad)
        worst = max((c for c in found if c.lane == "base" and c.text), key=lambda c: c.bad, default=None)
        if best.bad > winner:
            tally["winner not safe enough"] += 1
        elif worst is None or worst.text == best.text:
            tally["no other reply"] += 1
        elif worst.bad - best.bad < margin:
            tally["margin too small"] += 1
        else:
            tally["kept"] += 1
            pairs.append(Pair(best.prompt, best.text, worst.text, best.bad, worst.bad))
    return pairs, tally


def require_pairs(pairs: Sequence[Pair], tally: Counter[str]) -> None:
    """Raise TrainingError with the tally where no pair survived."""
    if not pairs:
        said = ", ".join(f"{count} {reason}" for reason, count in tally.most_common()) or "no candidates"
        raise TrainingError(f"no pair to learn from ({said})", expected="at least one pair over both thresholds",
                            do="lower margin, raise winner, or give prompts on which base and reference differ")
