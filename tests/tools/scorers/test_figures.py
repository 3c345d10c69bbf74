"""Figures against their definitions, and the README that shows them."""

import numpy as np
import pytest

from patchlab.scoring.features import BUCKETS
from patchlab.scoring.models import Linear
from tools.scorers.figures import agreement, auc, chances, curve, f1, kappa, macro_f1, reliability
from tools.scorers.fitted import Claim, Fitted, quiet_threshold
from tools.scorers.readme import readme
from tools.scorers.sets import Example, LabelledSet


def test_figures_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 9, 200) / 4 - 1
    other = rng.integers(0, 2, 200)
    assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert f1(labels, scores > 0) == pytest.approx(metrics.f1_score(labels, scores > 0))
    assert macro_f1(labels, scores > 0) == pytest.approx(metrics.f1_score(labels, scores > 0, average="macro"))
    assert kappa(labels, other) == pytest.approx(metrics.cohen_kappa_score(labels, other))


def test_a_curve_is_what_its_names_say() -> None:
    found = curve("s", np.array([2.0, -1.0, 1.0, -2.0]), np.array([1, 1, 0, 0]))
    assert (found.caught, found.false_alarms, found.auc, found.f1, found.precision) == (0.5, 0.5, 0.75, 0.5, 0.5)
    strict = curve("s", np.array([2.0, -1.0, 1.0, -2.0]), np.array([1, 1, 0, 0]), threshold=0.8)
    assert (strict.caught, strict.false_alarms, strict.precision) == (0.5, 0.0, 1.0)
    one = curve("calm", np.array([-1.0, 1.0]), np.array([0, 0]))
    assert (one.auc, one.f1, one.caught, one.false_alarms) == (None, None, None, 0.5)


def test_scores_that_keep_what_they_promise_have_no_calibration_error() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, 40_000)
    labels = (rng.random(len(logits)) < chances(logits)).astype(int)
    honest, loud = reliability(logits, labels), reliability(3 * logits, labels)
    assert honest.error < 0.01 < 0.1 < loud.error
    assert sum(share for share, _, _ in honest.bins) == pytest.approx(1)
    assert reliability(logits, labels, np.full(len(logits), 7.0)).error == pytest.approx(honest.error)


def test_weights_decide_what_counts() -> None:
    found = reliability(np.array([9.0, 9.0]), np.array([1, 0]), np.array([1.0, 0.0]))
    assert found.error < 0.001 and found.bins[0][2] == 1.0


def test_agreement_counts_the_errors_of_each() -> None:
    labels, first, second = np.array([1, 1, 0, 0]), np.array([True, False, False, True]), np.array([True, False, True, False])
    found = agreement("s", labels, first, second)
    assert (found.first_wrong, found.second_wrong, found.both_wrong, found.kappa) == (2, 2, 1, 0.0)
    assert kappa(first, first) == 1.0 and kappa(np.ones(3, bool), np.ones(3, bool)) is None


def test_a_threshold_keeps_calm_text_quiet_and_never_falls_under_a_half() -> None:
    calm = np.linspace(-3, 1, 1001)
    threshold = quiet_threshold(calm)
    assert 0.5 < threshold < 0.75 and (chances(calm) >= threshold).mean() <= 0.01
    assert quiet_threshold(calm - 5) == quiet_threshold(np.zeros(0)) == 0.5


def test_the_readme_names_every_set_licence_and_threshold() -> None:
    made = curve("my set", np.array([1.0, -1.0]), np.array([1, 0]), note="seen")
    used = LabelledSet("theirs", "CC-BY-4.0", "somewhere", 1.0, (Example("a", 1),) * 12_345, ())
    pooled = reliability(np.array([1.0, -1.0]), np.array([1, 0]))
    model = Linear("toxicity", np.zeros(BUCKETS, np.float32), 0.0)
    first, second = (Fitted(name, model, threshold, [used], [made], pooled)
                     for name, threshold in (("toxicity", 0.5), ("toxicity-2", 0.61)))
    agreed = agreement("both", [1, 0], np.array([True, False]), np.array([True, True]))
    text = readme({"toxicity": Claim(first, second, [agreed], [("older", 37, 0.5, 0.1)])})
    assert "| my set | 2 | 50% | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 | 0.269 | seen |" in text
    assert "| theirs | 12,345 | 12,345 | CC-BY-4.0 | somewhere |" in text
    assert "Threshold 0.61" in text and "| older | 37 | 0.500 | 0.100 |" in text
    assert "| both | 2 | 0.000 | 0 | 1 | 0 |" in text and "| 0.7 to 0.8 | 0.73, 1.00, 50.0% |" in text
