"""Pairs: for a prompt, a reply to prefer over another; every prompt that makes none is counted with its reason."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from patchlab.errors import TrainingError
from patchlab.models import Backbone
from patchlab.records import Pair, Prompt
from patchlab.storage import read_jsonl, write_jsonl
from patchlab.training.candidates import Candidate, badness
from patchlab.training.config import HARMLESS, Recipe


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


def harmless_pairs(held: Sequence[Candidate], pairs: Sequence[Pair], recipe: Recipe) -> tuple[list[Pair], Counter[str]]:
    """For harmless prompts the base's own help over a refusal, which is said to a harmful prompt of `pairs`.

    Without them DPO learns that refusing is good anywhere. `recipe.benign_pairs` for each of `pairs`, thresholds as for these.
    """
    found = [c for c in held if c.prompt.domain in HARMLESS]
    wanted = round(recipe.benign_pairs * len(pairs))
    if wanted and not found:
        raise TrainingError("benign_pairs without harmless prompts", expected=f"some with domain {' or '.join(HARMLESS)}",
                            do="add such prompts to the file, or set benign_pairs: 0")
    chosen = random.Random(recipe.seed)
    asked = chosen.sample(found, len(found))
    refusals = [chosen.choice(pairs).chosen for _ in asked]
    scores = badness(HARMLESS[0], refusals, [c.prompt for c in asked])
    made: list[Pair] = []
    tally: Counter[str] = Counter()
    for candidate, refusal, bad in zip(asked, refusals, scores, strict=True):
        if len(made) == wanted:
            break
        if not candidate.text or candidate.bad > recipe.winner:
            tally["harmless: no help to prefer"] += 1
        elif bad - candidate.bad < recipe.margin:
            tally["harmless: margin too small"] += 1
        else:
            tally["harmless: kept"] += 1
            made.append(Pair(candidate.prompt, candidate.text, refusal, candidate.bad, bad))
    return made, tally


def fitting(pairs: Sequence[Pair], backbones: Sequence[Backbone], *, length: int) -> list[Pair]:
    """The pairs that fit the context of each backbone behind a prefix of `length`."""
    def fits(pair: Pair, backbone: Backbone) -> bool:
        asked = len(backbone.encode(pair.prompt))
        said = max(len(backbone.encode_reply(text, kind=pair.prompt.kind)) for text in (pair.chosen, pair.rejected))
        return length + asked + said <= backbone.context

    return [pair for pair in pairs if all(fits(pair, backbone) for backbone in backbones)]


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs in the form `--pairs` reads."""
    write_jsonl(path, ({"prompt": p.prompt.text, "kind": p.prompt.kind, "domain": p.prompt.domain, "chosen": p.chosen,
                        "rejected": p.rejected, "chosen_score": p.chosen_score, "rejected_score": p.rejected_score}
                       for p in pairs))


def stored_pairs(path: Path) -> list[Pair]:
    """The pairs `write_pairs` wrote."""
    return [Pair(Prompt(row["prompt"], row["kind"], row["domain"]), row["chosen"], row["rejected"], row["chosen_score"],
                 row["rejected_score"]) for row in read_jsonl(path)]


def require_pairs(pairs: Sequence[Pair], tally: Counter[str]) -> None:
    """Raise TrainingError with the tally where no pair survived."""
    if not pairs:
        said = ", ".join(f"{count} {reason}" for reason, count in tally.most_common()) or "no candidates"
        raise TrainingError(f"no pair to learn from ({said})", expected="at least one pair over both thresholds",
                            do="lower margin, raise winner, or give prompts on which base and reference differ")
