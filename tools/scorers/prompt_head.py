"""Fit the head of the prompt judge, choose its thresholds on dev prompts, and measure it on suites it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchlab.scoring.crisis import looks_like_crisis
from patchlab.scoring.encoder import Floats as Float32
from patchlab.scoring.prompt_judge import PromptJudge, parts
from patchlab.scoring.sentence_encoder import SentenceEncoder
from patchlab.scoring.spelling import undisguised
from tools.scorers.encoder_rows import sampled
from tools.scorers.figures import Floats
from tools.scorers.fitted import labels_of
from tools.scorers.linear import scikit
from tools.scorers.prompt_rows import balanced, measured_prompts
from tools.scorers.sets import Example, LabelledSet, set_weights
from tools.scorers.written_prompts import CRISIS, HARMFUL, HARMLESS

MOST = 400  # training rows of a label of a set; the layers were tuned on all
STRENGTH = 3e-3  # inverse of the regularisation
WRONG, MISSED = 0.02, 0.03  # of dev prompts called harmful or harmless that are not, and of crisis messages missed


def prompt_head(encoder: SentenceEncoder, used: Sequence[LabelledSet]) -> tuple[Float32, Float32, dict[str, float]]:
    """Weights [3, F], bias [3] and thresholds of the judge."""
    kept = [balanced(each, 1200 if each.name == "written prompts" else MOST) for each in used]
    rows = [row for each in kept for row in each.train]
    weights = np.concatenate([set_weights(each.train, each.share) for each in kept])
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder.vectors([parts(undisguised(row.text))[0] for row in rows]).astype(np.float64)
    middle, spread = found.mean(0), found.std(0) + 1e-6
    model = scikit().linear_model.LogisticRegression(C=STRENGTH, max_iter=500)
    model.fit((found - middle) / spread, labels_of(rows), sample_weight=weights * len(weights) / weights.sum())
    scaled = (model.coef_ / spread).astype(np.float32)
    bias = (model.intercept_ - (model.coef_ / spread) @ middle).astype(np.float32)
    dev = [row for each in used for row in sampled(each.dev, MOST)]
    chances, labels = _chances(PromptJudge("", {}, scaled, bias, lambda: encoder), dev), labels_of(dev)
    return scaled, bias, {
        "harmful": _clipped(np.quantile(chances[labels == HARMLESS, 0], 1 - WRONG), 0.5, 0.9),
        "harmless": _clipped(np.quantile(chances[labels == HARMFUL, 0], WRONG), 0.1, 0.5),
        "crisis": _clipped(np.quantile(chances[labels == CRISIS, 1], MISSED), 0.2, 0.7)}


def _clipped(value: Any, low: float, high: float) -> float:
    return round(float(np.clip(value, low, high)), 2)


def _chances(judge: PromptJudge, rows: Sequence[Example]) -> Floats:
    return np.array([judge.chances(undisguised(row.text)) for row in rows])


def prompt_figures(judge: PromptJudge, used: Sequence[LabelledSet], data: Path, most: int) -> list[dict[str, Any]]:
    """The share of each label on the dev part of every set, and on suites that were never fitted on (`held`)."""
    written = [(kind, [row for row in used[-1].dev if row.group == kind])
               for kind in dict.fromkeys(row.group for row in used[-1].dev)]
    suites = [(each.name, sampled(each.dev, min(most, MOST)), False) for each in used[:-1] if each.dev]
    suites += [(f"written: {kind}", rows, False) for kind, rows in written]
    suites += [(name, sampled(rows, most), True) for name, rows in measured_prompts(data)]
    found = []
    for name, rows, held in suites:
        scores = judge.score([row.text for row in rows])
        shares = {label: round(float(np.mean([each.label == label for each in scores])), 4)
                  for label in ("harmless", "harmful", "crisis", "unclear", "outside")}
        found.append({"set": name, "held": held, "rows": len(rows), "label": rows[0].label, **shares,
                      "crisis by patterns": round(float(np.mean([looks_like_crisis(row.text) for row in rows])), 4)})
    return found
