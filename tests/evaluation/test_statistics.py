"""Intervals cover what they should, and the share of a gap is right at its ends."""

from __future__ import annotations

import numpy as np
import pytest

from patchlab.evaluation.statistics import gap_closed, interval


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for k in range(200):
        mean, low, high = interval(random.binomial(1, 0.3, size=200), seed=k, resamples=400)
        assert low <= mean <= high
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199


def test_same_seed_same_interval() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert interval(values, seed=5) == interval(values, seed=5)


def test_no_values_no_number() -> None:
    assert all(np.isnan(interval([])))


@pytest.mark.parametrize(("patched", "share"), [(0.8, 0.0), (0.0, 1.0), (0.4, 0.5)])
def test_gap_closed_at_its_ends(patched: float, share: float) -> None:
    value, low, high = gap_closed([0.8] * 50, [patched] * 50, [0.0] * 50)
    assert value == pytest.approx(share) and low == pytest.approx(share) and high == pytest.approx(share)


def test_overshooting_an_even_target_counts_as_missing() -> None:
    even, _, _ = gap_closed([0.9] * 20, [0.5] * 20, [0.5] * 20, target=0.5)
    beyond, _, _ = gap_closed([0.9] * 20, [0.3] * 20, [0.5] * 20, target=0.5)
    assert even == pytest.approx(1.0) and beyond == pytest.approx(0.5)


def test_no_gap_is_no_number() -> None:
    assert all(np.isnan(gap_closed([0.5] * 5, [0.4] * 5, [0.5] * 5)))


def test_ten_of_ten_is_no_certainty() -> None:
    assert interval([1.0] * 10, share=True) == (1.0, pytest.approx(0.722, abs=0.001), 1.0)
    assert interval([0.0] * 10, share=True)[2] == pytest.approx(0.278, abs=0.001)
    assert interval([0.0] * 10)[2] == 0.0  # a divergence of nothing is nothing
