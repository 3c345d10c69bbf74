"""The rows that the scorers on the encoder are fitted on and measured with.

Only sets under permissive licences are fitted on. Held origins are never fitted on; their labels were opened once before, on
samples of 240 to 500 rows, and nothing was changed after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tools.scorers import sets
from tools.scorers.sets import Example, LabelledSet, in_windows
from tools.scorers.written_exchanges import exchanges
from tools.scorers.written_groups import group_remarks
from tools.scorers.written_remarks import remarks
from tools.scorers.written_replies import replies
from tools.scorers.written_stances import stances

FITTED = ("davidson", "edos", "diasafety", "convabuse", "hatemoji")
HELD = ("wikipedia_toxicity", "vicomtech", "identity_templates")
SHARES = {"davidson": 1.0, "edos": 1.0, "diasafety": 0.6, "convabuse": 0.6, "hatemoji": 1.4}
OTHERS = 0.3  # weight of a reply of another source beside one of XSTest


def sampled(rows: Sequence[Example], n: int) -> list[Example]:
    """At most `n` rows, the same ones each time, whatever their order."""
    return sorted(rows, key=lambda row: crc32(row.text.encode("utf-8", "replace")))[:n]


def _balanced(rows: Sequence[Example], n: int) -> list[Example]:
    return [row for label in (0, 1) for row in sampled([row for row in rows if row.label == label], n)]


def toxicity_rows(data: Path) -> list[LabelledSet]:
    """Sets to fit the toxicity scorer on, with dev rows, and held origins (share 0) with dev rows only."""
    public = {each.name: each for each in sets.toxicity_sets(data)}
    used = [LabelledSet(name, public[name].licence, public[name].source, SHARES[name],
                        tuple(_balanced(public[name].train, 3500)), public[name].dev) for name in FITTED]
    held = [replace(public[name], share=0.0, train=()) for name in HELD]
    calm = [replace(each, train=tuple(sampled(each.train, 1500))) for each in sets.calm_sets(data)]
    made = [sets.written_set("written remarks", "written_remarks", 0.8,
                             [Example(each.text, each.label) for each in remarks(2400, seed=1)]),
            sets.written_set("written groups", "written_groups", 0.8,
                             [Example(each.text, each.label) for each in group_remarks(1500, seed=1)]),
            LabelledSet("written stances", "this project's", "tools.scorers.written_stances", 1.6,
                        tuple(stances(300, half="fit", seed=1)), tuple(stances(40, half="held", seed=2)))]
    return [in_windows(each) for each in (*used, *calm, *made, *held)]


def fitting_rows(used: Sequence[LabelledSet], *,
                 kept: bool = True) -> tuple[list[Example], NDArray[np.float64], NDArray[np.int64]]:
    """The training rows of sets, their weights [N] and origins [N] (-1: none of its own); or those left out to scale with."""
    parts = [part for part in (sets.tuning(each, kept=kept) for each in used if each.share) if part.train]
    origins = [FITTED.index(part.name) if part.name in FITTED else -1 for part in parts for _ in part.train]
    weights = np.concatenate([sets.set_weights(part.train, part.share) for part in parts])
    return [row for part in parts for row in part.train], weights, np.array(origins)


def refusal_others(data: Path) -> list[LabelledSet]:
    """Sets to fit the refusal scorer on beside XSTest's replies."""
    made = [("written replies", "written_replies", replies(100, half="fit", seed=1)),
            ("written exchanges", "written_exchanges", exchanges(150, half="fit", seed=1))]
    return [*(LabelledSet(name, "this project's", f"tools.scorers.{module}", OTHERS,
                          tuple(Example(each.text, each.label) for each in rows), ()) for name, module, rows in made),
            *(replace(each, train=tuple(sampled(each.train, 250))) for each in sets.answered_sets(data))]
