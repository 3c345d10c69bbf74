"""Fit the heads of the scorers on the encoder: logistic regressions over vectors of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from patchlab.scoring.answer import answer_of
from patchlab.scoring.encoder import Head, features
from patchlab.scoring.sentence_encoder import SentenceEncoder
from patchlab.scoring.spelling import undisguised
from patchlab.scoring.windows import windows
from tools.scorers import sets
from tools.scorers.encoder_rows import OTHERS, fitting_rows, refusal_others
from tools.scorers.figures import Floats, f1, macro_f1
from tools.scorers.fitted import labels_of
from tools.scorers.linear import folds, platt, scikit
from tools.scorers.refusal import string_match
from tools.scorers.sets import LabelledSet

SAMPLE = 8000  # rows that the toxicity head is fitted on; the layers were tuned on all
STRENGTH = {"toxicity-encoder": 1e-3, "refusal-encoder": 3e-3}  # inverse of the regularisation
ORDINARY = ("self_instruct", "winogender", "self_dialogue", "gsm8k_questions", "clinc150", "arena_hard", "awesome_prompts")


def read(name: str, encoder: SentenceEncoder, texts: Sequence[str], *, whole: bool = False) -> list[Floats]:
    """The features of texts, in bfloat16 products: for fitting, not for figures."""
    parts = [[text] if whole else windows(undisguised(answer_of(text))) for text in texts]
    with torch.autocast("cpu", torch.bfloat16):
        return [np.asarray(each, np.float64) for each in features(name, encoder, parts)]


def fit(name: str, rows: Floats, labels: NDArray[np.int64], weights: Floats) -> Head:
    """A logistic regression on standardised features [N, F], as a head over the features themselves."""
    middle, spread = rows.mean(0), rows.std(0) + 1e-6
    model = scikit().linear_model.LogisticRegression(C=STRENGTH[name], max_iter=500)
    model.fit((rows - middle) / spread, labels, sample_weight=weights * len(weights) / weights.sum())
    scaled = model.coef_[0] / spread
    return Head(scaled.astype(np.float32), (model.intercept_ - middle @ scaled).astype(np.float32))


def logits(head: Head, rows: Sequence[Floats]) -> Floats:
    """The log-odds [N] of texts by a head: the worst row of each."""
    return np.array([float((each @ head.weights + head.bias).max()) for each in rows])


def toxicity_head(encoder: SentenceEncoder, used: Sequence[LabelledSet]) -> Head:
    """The toxicity head, scaled on rows left out."""
    name = "toxicity-encoder"
    rows, weights, _ = fitting_rows(used)
    kept = np.random.default_rng(0).choice(len(rows), SAMPLE, p=weights / weights.sum())
    found = np.concatenate(read(name, encoder, [rows[i].text for i in kept], whole=True))
    head = fit(name, found, labels_of([rows[i] for i in kept]), np.ones(SAMPLE))
    rest, weights, _ = fitting_rows(used, kept=False)
    scores = logits(head, read(name, encoder, [row.text for row in rest]))
    slope, shift = platt(scores, labels_of(rest), weights)
    return Head(head.weights * np.float32(slope), (head.bias * slope + shift).astype(np.float32))


def refusal_head(encoder: SentenceEncoder, data: Path) -> tuple[Head, list[dict[str, float | str]]]:
    """The refusal head, and its figures on XSTest's replies cross-validated by prompt and by family of prompts."""
    name = "refusal-encoder"
    gold = sets.xstest(data)
    models = np.array([row["model"] for row in sets.read_rows(data / "xstest/completions_mistral.jsonl")])
    texts, labels = [each.text for each, _, _ in gold], labels_of([each for each, _, _ in gold])
    weights = np.array([each.weight for each, _, _ in gold])
    others = [row for each in refusal_others(data) for row in each.train]
    rows, made = (np.concatenate(read(name, encoder, each)) for each in (texts, [row.text for row in others]))
    share = np.full(len(others), OTHERS)

    def fitted(at: NDArray[np.int64]) -> Head:
        return fit(name, np.concatenate([rows[at], made]), np.concatenate([labels[at], labels_of(others)]),
                   np.concatenate([weights[at], share]))

    matched = np.array([string_match(text) for text in texts])
    figures: list[dict[str, float | str]] = []
    prompts, families = [each.group for each, _, _ in gold], [family for _, _, family in gold]
    for groups, by in ((prompts, "prompt"), (families, "family of prompts")):
        found = np.zeros(len(labels))
        for train, test in folds(labels, groups):
            found[test] = logits(fitted(train), [row[None, :] for row in rows[test]])
        for model in ("all", *dict.fromkeys(models)):
            here = models == model if model != "all" else np.ones(len(models), bool)
            figures.append({"set": f"xstest, cross-validated by {by}", "model": str(model), "rows": int(here.sum()),
                            "macro_f1": macro_f1(labels[here], found[here] >= 0),
                            "refusals_f1": f1(labels[here], found[here] >= 0),
                            "string_matching_macro_f1": macro_f1(labels[here], matched[here])})
    return fitted(np.arange(len(labels))), figures
