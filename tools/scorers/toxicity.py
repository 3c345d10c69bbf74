"""Fit and measure both toxicity scorers: the linear one over a bag, and the convolution over words in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.convolution import Convolution
from patchlab.scoring.models import PIECES, Linear, Model
from tools.scorers import sets
from tools.scorers.figures import Floats, agreement, chances, curve, reliability
from tools.scorers.fitted import Claim, Fitted, labels_of, model_logits, quiet_threshold
from tools.scorers.linear import Logistic, logistic, matrix, platt, scaled, training_rows
from tools.scorers.network import train
from tools.scorers.sets import Example, LabelledSet, set_weights, tuning
from tools.scorers.written_groups import group_remarks
from tools.scorers.written_remarks import remarks

ORDINARY = ("self_instruct", "winogender", "written remarks")  # where false alarms are kept under one in a hundred
EXTRA_SHARE = 1.2  # the made world counts as much as the largest public set
STEPS = 3500  # of the convolution


def fit_toxicity(data: Path, extra: Path | None) -> Claim:
    """Both toxicity scorers and their figures on every set. Raises InputError where a set is missing."""
    written = sets.written_set("written remarks", "written_remarks", 1.0,
                               [Example(each.text, each.label) for each in remarks(8000, seed=1)])
    groups = sets.written_set("written groups", "written_groups", 0.8,
                              [Example(each.text, each.label) for each in group_remarks(4000, seed=1)])
    made = sets.extra_set(extra, "toxicity", EXTRA_SHARE)
    public = sets.toxicity_sets(data)
    every = [*public, *sets.calm_sets(data), written, *([made] if made else [])]
    used = [each for each in every if each.share]
    linear, (network, threshold) = _linear(used), _network([*used, groups])
    first = Linear("toxicity", linear.weights.astype(np.float32), linear.bias)
    measured = [each for each in (*every, groups) if each.dev]
    found = {each.name: linear.logits(matrix("toxicity", each.dev)) for each in measured}
    other = {each.name: model_logits(network, each.dev) for each in measured}
    flags = {name: (chances(found[name]) >= 0.5, chances(other[name]) >= threshold) for name in found}
    own = (written.name, groups.name, "made world")
    templates = next(each for each in public if each.name == "identity_templates")
    return Claim(_fitted("toxicity", first, 0.5, used, measured, found, own),
                 _fitted("toxicity-2", network, threshold, [*used, groups], measured, other, own),
                 [agreement(each.name, labels, *flags[each.name]) for each in measured
                  if 0 < (labels := labels_of(each.dev)).mean() < 1],
                 _by_group(templates.dev, *flags[templates.name]))


def _linear(used: Sequence[LabelledSet]) -> Logistic:
    model = logistic(training_rows("toxicity", [tuning(each, kept=True) for each in used]), strength=1.5)
    # scaled on rows of the train files that were left out, so that the dev files stay unseen
    rows, weights, ordinary = _left_out(used)
    return scaled(model, model.logits(matrix("toxicity", rows)), labels_of(rows), weights,
                  calm=model.logits(matrix("toxicity", ordinary)), share=0.01)


def _network(used: Sequence[LabelledSet], *, steps: int = STEPS) -> tuple[Convolution, float]:
    """The convolution, scaled on the rows left out, and the threshold they ask for."""
    fitted = [tuning(each, kept=True) for each in used]
    rows = [row for each in fitted for row in each.train]
    model = train([row.text for row in rows], labels_of(rows),
                  np.concatenate([set_weights(each.train, each.share) for each in fitted]), rows=PIECES, steps=steps)
    rows, weights, ordinary = _left_out(used)
    model = model.scaled(*platt(model_logits(model, rows), labels_of(rows), weights))
    return model, quiet_threshold(model_logits(model, ordinary))


def _left_out(used: Sequence[LabelledSet]) -> tuple[list[Example], Floats, list[Example]]:
    """The rows to scale with, their weights, and the ordinary calm ones among them."""
    left = [each for each in (tuning(each, kept=False) for each in used) if each.train]
    rows = [row for each in left for row in each.train]
    return (rows, np.concatenate([set_weights(each.train, each.share) for each in left]),
            [row for each in left if each.name in ORDINARY for row in each.train if not row.label])


def _fitted(name: str, model: Model, threshold: float, used: Sequence[LabelledSet], every: Sequence[LabelledSet],
            logits: Mapping[str, Floats], own: Sequence[str]) -> Fitted:
    known = {each.name for each in used}
    curves = [curve(each.name, logits[each.name], labels_of(each.dev), threshold=threshold,
                    note="not fitted on" if each.name not in known else "same templates" if each.name in own else "")
              for each in every if each.dev]
    # sets of public text that hold both labels, weighing as in fitting
    judged = [each for each in every if each.name in known and each.name not in own and 0 < labels_of(each.dev).mean() < 1]
    pooled = reliability(np.concatenate([logits[each.name] for each in judged]),
                         np.concatenate([labels_of(each.dev) for each in judged]),
                         np.concatenate([set_weights(each.dev, each.share) for each in judged]))
    return Fitted(name, model, threshold, used, curves, pooled)


def _by_group(rows: Sequence[Example], flagged: NDArray[np.bool_],
              other: NDArray[np.bool_]) -> list[tuple[str, int, float, float]]:
    """Of the calm rows that name a group: how many, and the share each scorer flags, the worst for the first one first."""
    found = []
    for group in dict.fromkeys(row.group for row in rows if row.group):
        here = np.array([row.group == group and not row.label for row in rows])
        found.append((group, int(here.sum()), float(flagged[here].mean()), float(other[here].mean())))
    return sorted(found, key=lambda each: (-each[2], each[0]))
