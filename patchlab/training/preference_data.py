"""Preference pairs: read from a file or the Hub, or selected among candidates; every row or prompt without one is counted.

What a row may hold is in pair_rows.py.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from patchlab.errors import TrainingError
from patchlab.models import Backbone
from patchlab.records import Kind, Pair
from patchlab.rows import HUB, Row, Rows
from patchlab.storage import read_jsonl, write_jsonl
from patchlab.training.candidates import Candidate, domain_scores, prompt_of, prompt_row
from patchlab.training.config import HARMLESS, IMPROVES, Recipe
from patchlab.training.pair_rows import READ, STORED, pair_of


def read_pairs(source: str, *, domain: str, strict: bool = False,
               notes: list[str] | None = None) -> tuple[list[Pair], Counter[str]]:
    """The pairs of a file, or of `hub:NAME[#SPLIT]`, for a patch of `domain`, with the number of rows kept and dropped.

    Their replies count as complete; white space around texts is dropped. A row that cannot be used is skipped, counted and told
    in `notes`, as are columns that are not read; with `strict` it is an error. Raises InputError where no row can be used,
    TrainingError with the counts where none is kept, MissingExtraError for a format that needs a library.
    """
    if source.startswith(HUB):
        name, _, split = source.removeprefix(HUB).replace("#", ":").partition(":")
        source = f"{HUB}{name}#{split or 'train'}"
    kind: Kind = "chat" if domain == "refusal" else "continue"
    counts: Counter[str] = Counter()
    rows = Rows(source, strict=strict, notes=notes)
    unread: dict[str, None] = {}
    pairs: list[Pair] = []

    def read(row: Row) -> Pair | str:
        unread.update(dict.fromkeys(str(name) for name, value in row.items() if value and name not in READ))
        return pair_of(row, kind, IMPROVES.get(domain, (domain,))[0])

    for found in rows.each(read):
        counts["kept" if isinstance(found, Pair) else found] += 1
        pairs += [found] if isinstance(found, Pair) else []
    counts += Counter({"that cannot be used": rows.skipped})
    if unread:
        rows.tell(f"{rows.name}: columns that are not used: {', '.join(unread)[:200]}")
    require_pairs(pairs, counts)
    return pairs, counts


def make_pairs(candidates: Sequence[Candidate], *, margin: float, winner: float) -> tuple[list[Pair], Counter[str]]:
    """For each prompt the reference's best reply over the base's worst, where both thresholds hold.

    Without a reference lane the base's own replies are ranked. Returns the pairs and the number of prompts kept and dropped.
    """
    by_prompt: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_prompt.setdefault(candidate.prompt.key, []).append(candidate)
    pairs: list[Pair] = []
    counts: Counter[str] = Counter()
    for found in by_prompt.values():
        safer = [c for c in found if c.lane == "reference" and c.text] or [c for c in found if c.text]
        if not safer:
            counts["empty reply"] += 1
            continue
        best = min(safer, key=lambda c: c.score)
        worst = max((c for c in found if c.lane == "base" and c.text), key=lambda c: c.score, default=None)
        if best.score > winner:
            counts["winner not safe enough"] += 1
        elif worst is None or worst.text == best.text:
            counts["no other reply"] += 1
        elif worst.score - best.score < margin:
            counts["margin too small"] += 1
        else:
            counts["kept"] += 1
            pairs.append(Pair(best.prompt, best.text, worst.text, best.score, worst.score, best.cut, worst.cut))
    return pairs, counts


def harmless_pairs(held: Sequence[Candidate], pairs: Sequence[Pair], recipe: Recipe) -> tuple[list[Pair], Counter[str]]:
    """For harmless prompts the base's helpful reply over a refusal that is the chosen reply of one of `pairs`.

    Without them DPO learns to refuse everything. `recipe.benign_pairs` for each of `pairs`, by the same thresholds.
    """
    found = [c for c in held if c.prompt.domain in HARMLESS]
    wanted = round(recipe.benign_pairs * len(pairs))
    if wanted and not found:
        raise TrainingError("benign_pairs without harmless prompts", expected=f"some with domain {' or '.join(HARMLESS)}",
                            do="add such prompts to the file, or set benign_pairs: 0")
    draw = random.Random(recipe.seed)
    asked = draw.sample(found, len(found))
    refusals = [draw.choice(pairs) for _ in asked]
    scores = domain_scores(HARMLESS[0], [refusal.chosen for refusal in refusals], [c.prompt for c in asked])
    made: list[Pair] = []
    counts: Counter[str] = Counter()
    for helpful, refusal, score in zip(asked, refusals, scores, strict=True):
        if len(made) == wanted:
            break
        if not helpful.text or helpful.score > recipe.winner:
            counts["harmless: no helpful reply"] += 1
        elif score - helpful.score < recipe.margin:
            counts["harmless: margin too small"] += 1
        else:
            counts["harmless: kept"] += 1
            made.append(Pair(helpful.prompt, helpful.text, refusal.chosen, helpful.score, score, helpful.cut,
                             refusal.chosen_cut))
    return made, counts


def fitting(pairs: Sequence[Pair], backbones: Sequence[Backbone], *, length: int) -> list[Pair]:
    """The pairs that fit the context of each backbone behind a prefix of `length`."""
    def fits(pair: Pair, backbone: Backbone) -> bool:
        replies = (backbone.encode_reply(text, kind=pair.prompt.kind) for text in (pair.chosen, pair.rejected))
        return length + len(backbone.encode(pair.prompt)) + max(map(len, replies)) <= backbone.context

    return [pair for pair in pairs if all(fits(pair, backbone) for backbone in backbones)]


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs in the form that `read_pairs` reads, with their scores and whether a reply was cut by the length limit."""
    write_jsonl(path, ({**prompt_row(pair.prompt), **{name: getattr(pair, name) for name in STORED}} for pair in pairs))


def stored_pairs(path: Path) -> list[Pair]:
    """The pairs `write_pairs` wrote."""
    return [Pair(prompt_of(row), *(row[name] for name in STORED)) for row in read_jsonl(path)]


def require_pairs(pairs: Sequence[Pair], counts: Counter[str]) -> None:
    """Raise TrainingError with the counts where no pair is left."""
    if not pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "no candidates"
        raise TrainingError(f"no pair to learn from ({reasons})", expected="at least one pair over both thresholds",
                            do="lower margin, raise winner, or give prompts on which base and reference differ")
