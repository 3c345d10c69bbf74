"""Intervals cover what they should, and the share of a gap is right at its ends."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from patchlab.evaluation.statistics import effect_kept, gain, gap_closed, interval, kappa, paired, wilson


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for k in range(200):
        mean, low, high = interval(random.binomial(1, 0.3, size=200), seed=k)
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


@pytest.mark.parametrize("n", [*range(1, 61), 300])
def test_a_larger_share_has_no_lower_end(n: int) -> None:
    found = [interval([1.0] * k + [0.0] * (n - k), share=True) for k in range(n + 1)]
    assert all(low <= value <= high for value, low, high in found)
    for (_, low, high), (_, next_low, next_high) in pairwise(found):
        assert low < next_low and high < next_high
    assert found[0][1] == 0 and found[-1][2] == 1
    assert all(low == pytest.approx(1 - high) for (_, low, _), (_, _, high) in zip(found, found[::-1], strict=True))


def test_wilson_by_hand() -> None:
    z, n, k = 1.959964, 300, 1
    middle, reach = (k + z * z / 2) / (n + z * z), z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    assert wilson(k, n) == pytest.approx((middle - reach, middle + reach), abs=1e-8)
    assert wilson(0, 300)[1] == pytest.approx(0.0126, abs=1e-4)


def test_shares_of_several_samples_are_in_order_with_none_and_all() -> None:
    none, few, all_ = ([value] + [end] * 299 for value, end in ((0.0, 0.0), (0.04, 0.0), (1.0, 1.0)))
    most = [0.96] + [1.0] * 299
    ends = [interval(values, share=True)[1:] for values in (none, few, most, all_)]
    assert ends == sorted(ends) and [high for _, high in ends] == sorted(high for _, high in ends)
    changes = [gain([0.0] * 300, [1.0] * k + [0.0] * (300 - k), best=1.0, share=True)[:3] for k in range(12)]
    assert all(low <= next_low and high < next_high for (_, low, high), (_, next_low, next_high) in pairwise(changes))


def test_memory_is_bounded_at_twenty_thousand_prompts() -> None:
    random = np.random.default_rng(0)
    lanes = random.random((4, 20_000))
    lanes[2:] *= 0.5
    calls = [lambda: interval(lanes[0]), lambda: gap_closed(*lanes[:3]),
             lambda: gain(*lanes[:2], best=0.0), lambda: paired(*lanes[:2]),
             lambda: effect_kept((lanes[0], lanes[2]), (lanes[1], lanes[3]), target=0.0),
             lambda: kappa(lanes[0] > 0.5, lanes[1] > 0.5, range(20_000))]
    for call in calls:
        tracemalloc.start()
        found = call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6 and found[1] < found[0] < found[2]


def test_p_is_even_where_lanes_are_alike_and_small_where_they_are_not() -> None:
    random = np.random.default_rng(1)
    found = [paired(*random.normal(size=(2, 40)), seed=k)[3] for k in range(200)]
    assert 2 <= sum(p <= 0.05 for p in found) <= 20  # about 10 of 200 by chance
    assert 0.4 < np.mean(found) < 0.6
    first = random.normal(size=60)
    difference, low, high, p, n = paired(first, first + random.normal(0.5, 0.3, size=60))
    assert 0.3 < low < difference < high < 0.7 and p <= 0.001 and n == 60


@pytest.mark.parametrize("n", [5, 13, 14, 40])
def test_p_is_that_of_scipy(n: int) -> None:
    apart = np.random.default_rng(n).normal(0.3, size=n)
    theirs = stats.permutation_test((apart,), np.sum, permutation_type="samples", n_resamples=10_000, rng=1).pvalue
    assert paired([0.0] * n, apart)[3] == pytest.approx(theirs, abs=1e-9 if n <= 13 else 0.02)


def test_three_differences_of_one_sign_cannot_be_surer_than_a_quarter() -> None:
    *_, p, n = paired([0, 0, 0], [1, 1, 1])
    assert n == 3 and p == 0.25  # two of the eight signs are as far
    assert paired([1, 2], [1, 2])[3] == 1.0


def test_prompts_without_a_number_on_either_side_are_left_out() -> None:
    nan = float("nan")
    difference, *_, n = paired([1.0, nan, 3.0, 4.0], [2.0, 5.0, nan, 5.0])
    assert (difference, n) == (1.0, 2)
    assert all(np.isnan(paired([nan], [1.0])[:4])) and paired([nan], [1.0])[4] == 0


def test_kappa_by_hand() -> None:
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15  # agree on 35 of 50, by chance on half
    value, low, high = kappa(first, second, range(50))
    assert value == pytest.approx(0.4) and low < 0.4 < high
    assert kappa(first, first, range(50))[0] == 1.0
    assert all(np.isnan(kappa([False] * 4, [False] * 4, range(4))))
    assert all(np.isnan(kappa([], [], [])))


def test_samples_of_a_prompt_are_resampled_together() -> None:
    first, second = [True, False] * 30, [True, True, False, False] * 15
    apart = kappa(first, second, range(60))
    together = kappa(first, second, [k // 20 for k in range(60)])
    assert apart[0] == together[0] and together[2] - together[1] < apart[2] - apart[1]


@pytest.mark.parametrize(("base", "patched", "share"), [(0.8, 0.2, 1.0), (0.8, 0.5, 0.5), (0.8, 0.8, 0.0), (0.5, 0.8, -0.5)])
def test_effect_kept_at_its_ends(base: float, patched: float, share: float) -> None:
    before = [0.8] * 40, [0.2] * 40
    assert effect_kept(before, ([base] * 40, [patched] * 40), target=0.0) == pytest.approx((share,) * 3)
    # the same seen from the other end: refusals rise to 1 where toxic replies fall to 0
    turned = tuple([[1 - value for value in lane] for lane in lanes] for lanes in (before, ([base] * 40, [patched] * 40)))
    assert effect_kept(*turned, target=1.0) == pytest.approx((share,) * 3)


def test_lanes_are_paired_by_prompt_so_that_equal_lanes_keep_all_of_it() -> None:
    random = np.random.default_rng(2)
    lanes = random.binomial(1, 0.7, 60), random.binomial(1, 0.3, 60)
    assert effect_kept(lanes, lanes, target=0.0) == (1.0, 1.0, 1.0)


def test_a_prompt_without_a_number_in_any_lane_is_left_out() -> None:
    nan = float("nan")
    before, after = ([1.0, 1.0, nan], [0.0, 0.0, 0.0]), ([1.0, 0.0, 1.0], [nan, 0.5, 0.0])
    assert effect_kept(before, after, target=0.0)[0] == pytest.approx(-0.5)  # the second prompt alone
    assert all(np.isnan(effect_kept(([nan], [0.0]), ([1.0], [0.0]), target=0.0)))


def test_where_there_was_no_effect_no_share_of_it_is_kept() -> None:
    assert np.isnan(effect_kept(([0.5] * 9, [0.5] * 9), ([0.8] * 9, [0.1] * 9), target=0.0)[0])


def test_all_or_nothing_on_few_prompts_is_no_certainty() -> None:
    for n, low in ((2, 0.342), (300, 0.987)):
        pair = [0.0] * n, [1.0] * n
        assert effect_kept(pair, pair, target=1.0) == pytest.approx((1.0, low, 2 - low), abs=1e-3)


def test_a_gain_towards_zero_is_a_paired_difference_turned_around() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(80).tolist(), (random.random(80) * 0.6).tolist()
    value, low, high, n = gain(first, second, best=0.0)
    difference, lowest, highest, _, count = paired(first, second)
    assert n == count == 80
    assert (value, low, high) == pytest.approx((-difference, -highest, -lowest))
    assert gain(first, second, best=1.0)[0] == pytest.approx(-value)


def test_a_gain_towards_an_even_share_counts_from_either_side() -> None:
    even, all_she, all_he = [0.0, 1.0] * 40, [1.0] * 80, [0.0] * 80
    assert gain(all_she, even, best=0.5)[0] == gain(all_he, even, best=0.5)[0] == 0.5
    assert gain(all_she, all_he, best=0.5)[0] == 0.0
    value, low, high, _ = gain(even, all_he, best=0.5)
    assert value == -0.5 and low < high < 0


def test_no_change_at_all_is_no_certainty() -> None:
    value, low, high, n = gain([0.0] * 20, [0.0] * 20, best=0.0, share=True)
    assert (value, n) == (0.0, 20) and low == -high < -0.1
    _, low, high, _ = gain([0.0] * 20, [1.0] * 20, best=1.0, share=True)
    assert low < 0.9 and high == 1.0
    assert gain([0.25] * 20, [0.25] * 20, best=0.0)[:3] == (0.0, 0.0, 0.0)


def test_a_gain_leaves_out_prompts_without_a_number() -> None:
    nan = float("nan")
    assert gain([1.0, nan, 0.0, 1.0], [0.0, 1.0, nan, 0.0], best=0.0)[::3] == (1.0, 2)
    assert gain([nan], [1.0], best=0.0)[3] == 0 and np.isnan(gain([nan], [1.0], best=0.0)[0])
