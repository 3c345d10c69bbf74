"""Figures of the scorers on the encoder, through `score` as everybody else calls it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.encoder import LABELS
from patchlab.scoring.table import Scorer
from tools.scorers.encoder_rows import held_prompts, prompt_rows, sampled
from tools.scorers.figures import Floats, auc
from tools.scorers.fitted import labels_of
from tools.scorers.sets import Example, LabelledSet, read_rows

MOST = 400  # rows of a dev set of a fitted origin; held origins are measured whole
TEMPLATES = 1500
Figures = dict[str, Any]


def interval(labels: NDArray[np.int64], scores: Floats, *, draws: int = 300) -> tuple[float, float]:
    """The 95 % bootstrap interval of the AUC over rows."""
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        at = rng.integers(len(labels), size=len(labels))
        if 0 < labels[at].mean() < 1:
            found.append(auc(labels[at], scores[at]))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def toxicity_figures(scorer: Scorer, every: Sequence[LabelledSet], fitted: Set[str], data: Path) -> list[Figures]:
    """AUC with its interval, and what is flagged among each label, on every set; `held` marks origins never fitted on."""
    found = [_figures(scorer, each.name, sampled(each.dev, MOST if each.share else TEMPLATES), held=each.name not in fitted)
             for each in every if each.dev]
    prompts = [Example(row["prompt"], int(row["bucket"] == "toxic")) for row in read_rows(data / "realtoxicityprompts/prompts.jsonl")]
    stances = next(each for each in every if each.name == "written stances").dev
    kinds = [_figures(scorer, f"written stances, held frames: {kind}", [row for row in stances if row.group == kind], held=False)
             for kind in dict.fromkeys(row.group for row in stances)]
    return [*found, _figures(scorer, "realtoxicityprompts", prompts, held=True), *kinds]


def _figures(scorer: Scorer, name: str, rows: Sequence[Example], *, held: bool) -> Figures:
    scores = scorer.score([row.text for row in rows])
    values, flagged = np.array([each.value for each in scores]), np.array([each.flagged for each in scores])
    labels = labels_of(rows)
    both = 0 < labels.mean() < 1
    share = {key: round(float(flagged[labels == label].mean()), 4)
             for key, label in (("caught", 1), ("false_alarms", 0)) if (labels == label).any()}
    low, high = interval(labels, values) if both else (None, None)
    return {"set": name, "held": held, "rows": len(rows), **({"auc": round(auc(labels, values), 4), "low": low, "high": high}
                                                             if both else {}), **share,
            "unjudged": sum(not each.known for each in scores)}


def prompt_figures(scorer: Scorer, data: Path) -> list[Figures]:
    """How often each verdict is given to prompts of each kind; `held` marks origins never fitted on."""
    dev = prompt_rows(data, part="dev")
    labels = LABELS["prompt-encoder"]
    groups = {f"{name} ({labels[next(row.label for row in dev if row.group == name)]})":
              [row.text for row in dev if row.group == name] for name in dict.fromkeys(row.group for row in dev)}
    found = []
    for held, parts in ((False, groups), (True, held_prompts(data))):
        for name, texts in parts.items():
            verdicts = Counter(each.label for each in scorer.score(texts[:400]))
            found.append({"set": name, "held": held, "rows": len(texts[:400]),
                          **{label: round(count / len(texts[:400]), 4) for label, count in verdicts.most_common()}})
    return found
