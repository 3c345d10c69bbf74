"""Fit the embedded scorers, measure them, and write them with their README: about four minutes on one core.

Reads public sets, written text and the rows of `extra`; writes NAME.safetensors and NAME.json of every scorer, and
README.md. Figures come from rows that were not fitted on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchlab.scoring.embedded import save_embedded
from patchlab.storage import write_text
from tools.scorers.fitted import Claim, Fitted
from tools.scorers.linear import scikit
from tools.scorers.readme import readme
from tools.scorers.refusal import fit_refusal
from tools.scorers.sets import Task
from tools.scorers.toxicity import fit_toxicity

WORDS: dict[Task, dict[str, str]] = {
    "toxicity": {"flagged": "toxic", "clear": "not toxic"},
    "refusal": {"flagged": "refused", "clear": "answered"}}


def card(fitted: Fitted, task: Task) -> dict[str, Any]:
    """What a scorer's JSON says of its fit."""
    return {"threshold": fitted.threshold, "labels": WORDS[task],
            "trained_on": [{"set": each.name, "licence": each.licence, "source": each.source, "rows": len(each.train)}
                           for each in fitted.used],
            "measured": [each.as_json() for each in fitted.curves]}


def build(data: Path, extra: Path | None, out: Path) -> None:
    """Fit and write all scorers and the README. Raises InputError, MissingExtraError."""
    scikit()
    claims: dict[Task, Claim] = {}
    fits: dict[Task, Callable[[Path, Path | None], Claim]] = {"toxicity": fit_toxicity, "refusal": fit_refusal}
    for task, fit in fits.items():
        claims[task] = fit(data, extra)
        for each in (claims[task].first, claims[task].second):
            save_embedded(out, each.name, model=each.model, card=card(each, task))
        print(f"{task}: written to {out}", file=sys.stderr)
    write_text(out / "README.md", readme(claims))
