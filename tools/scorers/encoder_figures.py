"""Figures of the scorers on the encoder beside the embedded ones, through `score` as everybody else calls it."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from patchlab.scoring.table import Scorer
from tools.scorers import held
from tools.scorers.encoder_rows import sampled
from tools.scorers.figures import Floats, auc
from tools.scorers.fitted import labels_of
from tools.scorers.sets import Example, LabelledSet, read_rows

MOST = 400  # rows of a dev set of a fitted origin
Figures = dict[str, Any]


def interval(labels: NDArray[np.int64], scores: Floats, *, draws: int = 300) -> tuple[float, float]:
    """The 95 % bootstrap interval of the AUC over rows."""
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        at = rng.integers(len(labels), size=len(labels))
        if 0 < labels[at].mean() < 1:
            found.append(auc(labels[at], scores[at]))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def toxicity_figures(scorers: Sequence[Scorer], every: Sequence[LabelledSet], fitted: Set[str], data: Path,
                     most: int) -> list[Figures]:
    """AUC with its interval, and what is flagged among each label, on every set.

    `held` marks origins that the encoder's scorer was not fitted on.
    """
    parts = [(each.name, sampled(each.dev, min(most, MOST) if each.share else most), each.name not in fitted)
             for each in every if each.dev]
    prompts = [Example(row["prompt"], int(row["bucket"] == "toxic"))
               for row in read_rows(data / "realtoxicityprompts/prompts.jsonl")]
    stances = next(each for each in every if each.name == "written stances").dev
    parts += [("realtoxicityprompts", sampled(prompts, most), True),
              *((f"written stances: {kind}", [row for row in stances if row.group == kind], False)
                for kind in dict.fromkeys(row.group for row in stances))]
    return [{"scorer": scorer.name, "set": name, "held": other, **_figures(scorer, rows)}
            for name, rows, other in parts for scorer in scorers]


def _figures(scorer: Scorer, rows: Sequence[Example]) -> Figures:
    scores = scorer.score([row.text for row in rows])
    values, flagged = np.array([each.value for each in scores]), np.array([each.flagged for each in scores])
    labels = labels_of(rows)
    found: Figures = {"rows": len(rows), "unjudged": sum(not each.known for each in scores)}
    if 0 < labels.mean() < 1:
        low, high = interval(labels, values)
        found |= {"auc": round(auc(labels, values), 4), "low": round(low, 4), "high": round(high, 4)}
    return found | {key: round(float(flagged[labels == label].mean()), 4)
                    for key, label in (("caught", 1), ("false_alarms", 0)) if (labels == label).any()}


def written_figures(toxicity: Sequence[Scorer], refusal: Sequence[Scorer]) -> dict[str, dict[str, float]]:
    """The figures of `tools.scorers.held` on its dev part, by scorer."""
    texts = yaml.safe_load((held.FOLDER / "dev.yaml").read_text(encoding="utf-8"))
    return {**{each.name: held.toxicity_figures(texts, partial(held.flags, each)) for each in toxicity},
            **{each.name: held.refusal_figures(texts, partial(held.flags, each)) for each in refusal}}


def page_update(scorers: Sequence[Scorer]) -> float:
    """Milliseconds of processor time until `scorers` have read what is new in three growing replies: one update of the page."""
    texts, found = yaml.safe_load((held.FOLDER / "dev.yaml").read_text(encoding="utf-8"))["calm"], list[float]()
    for end in range(4, 40, 4):
        replies = [f"{texts[at]} {texts[at + 1]} " + " ".join(f"{' '.join(texts[at + 2:at + 9])} column {at}".split()[:end])
                   for at in (0, 9, 18)]
        started = time.process_time()  # of this process alone, whatever else runs
        for scorer in scorers:
            scorer.score(replies)
        found.append(1000 * (time.process_time() - started))
    return round(float(np.median(found[1:])), 2)


def speed(scorers: Sequence[Scorer]) -> dict[str, dict[str, float]]:
    """Milliseconds of one thread: a reply of nine sentences scored for the first time, and again after one more word."""
    texts = yaml.safe_load((held.FOLDER / "dev.yaml").read_text(encoding="utf-8"))["calm"]
    found = {}
    for scorer in scorers:
        scorer.score(["A first text, so that everything is loaded."])
        first, grown = list[float](), list[float]()
        for at in range(0, 40, 8):
            # named after the scorer, so that no vector is in the cache of another
            said = [f"{text} That was {scorer.name}, sentence {at + k}." for k, text in enumerate(texts[at:at + 8:2])]
            reply, last = " ".join(said), texts[at + 7].split()
            for end in range(1, len(last) + 1):
                started = time.perf_counter()
                scorer.score([" ".join([reply, *last[:end]])])
                (grown if end > 1 else first).append(1000 * (time.perf_counter() - started))
        found[scorer.name] = {"first": round(float(np.median(first)), 2), "one more word": round(float(np.median(grown)), 2)}
    return found
