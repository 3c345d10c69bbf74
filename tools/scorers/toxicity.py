"""Fit and measure both toxicity scorers: the linear one over a bag, and the convolution over words in order."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.convolution import Convolution
from patchlab.scoring.models import PIECES, Linear, Model
from patchlab.scoring.windows import windows
from tools.scorers import sets
from tools.scorers.figures import Floats, agreement, chances, curve, reliability
from tools.scorers.fitted import Claim, Fitted, labels_of, model_logits, quiet_threshold
from tools.scorers.linear import logistic, matrix, platt, scaled, training_rows
from tools.scorers.network import train
from tools.scorers.sets import Example, LabelledSet, set_weights, tuning
from tools.scorers.written_exchanges import exchanges
from tools.scorers.written_groups import group_remarks
from tools.scorers.written_remarks import remarks
from tools.scorers.written_reports import reports

OWN = ("written remarks", "written exchanges", "written groups", "written reports", "made world")  # frames of this project
EXTRA_SHARE = 1.2  # the made world counts as much as the largest public set
EXCHANGES_SHARE = 0.4
CALM_SHARE = 0.003  # of ordinary calm sentences that may be flagged: one in eighty texts of four sentences
STRENGTH = 1.5  # of the linear model; see logistic
STEPS = 4500  # of the convolution


def fit_toxicity(data: Path, extra: Path | None) -> Claim:
    """Both toxicity scorers and their figures on every set. Raises InputError where a set is missing."""
    written = [sets.written_set(f"written {name}", f"written_{name}", share, [Example(each.text, each.label) for each in made])
               for name, share, made in (("remarks", 1.0, remarks(8000, seed=1)), ("groups", 0.8, group_remarks(4000, seed=1)),
                                         ("reports", 1.0, reports(6000, seed=1)))]
    written.append(sets.written_set("written exchanges", "written_exchanges", EXCHANGES_SHARE, [
        Example(text, 0, group=each.prompt) for each in exchanges(250, half="fit", seed=1) for text in (each.text, each.prompt)
        if each.kind != "rejects a prejudice" or text == each.text]))
    made = sets.extra_set(extra, "toxicity", EXTRA_SHARE)
    public = sets.toxicity_sets(data)
    calm = sets.calm_sets(data)
    every = [*public, *calm, *written, *([made] if made else [])]
    used = [sets.in_windows(each) for each in every if each.share]
    ordinary = {each.name for each in calm} | {"written remarks", "written reports", "written exchanges"}
    whole, _ = _linear(used, ordinary)
    used = [_worst_window(each, whole) for each in used]
    first, second = _linear(used, ordinary), _network(used, ordinary)
    measured = [each for each in every if each.dev]
    found, other = ({each.name: model_logits(name, model, each.dev) for each in measured}
                    for name, (model, _) in (("toxicity", first), ("toxicity-2", second)))
    flags = {name: (chances(found[name]) >= first[1], chances(other[name]) >= second[1]) for name in found}
    templates = next(each for each in public if each.name == "identity_templates")
    return Claim(_fitted("toxicity", *first, used, measured, found), _fitted("toxicity-2", *second, used, measured, other),
                 [agreement(each.name, labels, *flags[each.name]) for each in measured
                  if 0 < (labels := labels_of(each.dev)).mean() < 1],
                 _by_group(templates.dev, *flags[templates.name]))


def _worst_window(each: LabelledSet, model: Linear) -> LabelledSet:
    """A set with each toxic training row cut to the window that a first model finds the most toxic, as scorers read it."""
    return replace(each, train=tuple(replace(row, text=max(windows(row.text), key=model.logit), group=row.group or row.text)
                                     if row.label else row for row in each.train))


def _linear(used: Sequence[LabelledSet], ordinary: Container[str]) -> tuple[Linear, float]:
    """The linear model with the threshold 0.5, scaled and shifted on rows of the train files that were left out."""
    model = logistic(training_rows("toxicity", [tuning(each, kept=True) for each in used]), strength=STRENGTH)
    rows, weights, calm = _left_out(used, ordinary)
    model = scaled(model, model.logits(matrix("toxicity", rows)), labels_of(rows), weights,
                   calm=model.logits(matrix("toxicity", calm)), share=CALM_SHARE)
    return Linear("toxicity", model.weights.astype(np.float32), model.bias), 0.5


def _network(used: Sequence[LabelledSet], ordinary: Container[str], *, steps: int = STEPS) -> tuple[Convolution, float]:
    """The convolution, scaled on the rows left out, and the threshold they ask for."""
    fitted = [tuning(each, kept=True) for each in used]
    rows = [row for each in fitted for row in each.train]
    model = train([row.text for row in rows], labels_of(rows),
                  np.concatenate([set_weights(each.train, each.share) for each in fitted]), rows=PIECES, steps=steps)
    rows, weights, calm = _left_out(used, ordinary)
    logits, quiet = (np.array([model.logit(row.text) for row in some]) for some in (rows, calm))
    slope, shift = platt(logits, labels_of(rows), weights)
    return model.scaled(slope, shift), quiet_threshold(slope * quiet + shift, CALM_SHARE)


def _left_out(used: Sequence[LabelledSet], ordinary: Container[str]) -> tuple[list[Example], Floats, list[Example]]:
    """The rows to scale with, their weights, and the ordinary calm ones among them."""
    left = [each for each in (tuning(each, kept=False) for each in used) if each.train]
    rows = [row for each in left for row in each.train]
    return (rows, np.concatenate([set_weights(each.train, each.share) for each in left]),
            [row for each in left if each.name in ordinary for row in each.train if not row.label])


def _fitted(name: str, model: Model, threshold: float, used: Sequence[LabelledSet], every: Sequence[LabelledSet],
            logits: Mapping[str, Floats]) -> Fitted:
    known = {each.name for each in used}
    curves = [curve(each.name, logits[each.name], labels_of(each.dev), threshold=threshold,
                    note="not fitted on" if each.name not in known else "same templates" if each.name in OWN else "")
              for each in every if each.dev]
    # sets of public text that hold both labels, weighing as in fitting
    judged = [each for each in every if each.name in known and each.name not in OWN and 0 < labels_of(each.dev).mean() < 1]
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
