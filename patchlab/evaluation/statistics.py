"""Means with intervals, lanes compared in pairs, judges compared with each other.

Every figure PatchLab prints comes through here: n, a 95 % bootstrap interval over prompts, a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
FLIPS = 10_000  # sign flips of a paired test: its p-values go down to 0.0001

Statistic = Callable[[np.ndarray], np.ndarray]


def interval(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES,
             share: bool = False) -> tuple[float, float, float]:
    """The mean of `values` (one a prompt) and its 95 % percentile bootstrap interval over prompts: (mean, low, high).

    For a `share`, values that are all 0 or all 1 have no spread to resample; their interval is Wilson's, which says what
    that many prompts can tell.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return float("nan"), float("nan"), float("nan")
    if share and (np.all(data == 0) or np.all(data == 1)):
        reach = 1.96**2 / (data.size + 1.96**2)
        return (0.0, 0.0, reach) if data[0] == 0 else (1.0, 1 - reach, 1.0)
    means = data[_draws(data.size, seed, resamples)].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(data.mean()), float(low), float(high)


def gap_closed(base: Sequence[float], patched: Sequence[float], reference: Sequence[float], *, target: float | None = None,
               seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """The share of the way from base to reference that patched has gone, with a paired bootstrap interval over prompts.

    Values are one a prompt, same prompts in the same order. With `target` (0.5 for an even pronoun) the way is measured as
    distance from it, so that overshooting counts as missing, not as more.
    """
    lanes = [np.asarray(lane, dtype=np.float64) for lane in (base, patched, reference)]
    if lanes[0].size == 0:
        return float("nan"), float("nan"), float("nan")
    draws = _draws(lanes[0].size, seed, resamples)

    def share(means: list[np.ndarray]) -> np.ndarray:
        b, p, r = means if target is None else [np.abs(m - target) for m in means]
        return (b - p) / np.where(np.abs(b - r) < 1e-9, np.nan, b - r)

    value = share([np.asarray(np.nanmean(lane)) for lane in lanes])
    spread = share([np.nanmean(lane[draws], axis=1) for lane in lanes])
    if np.isnan(spread).all():  # base and reference are alike: there is no gap to close
        return float("nan"), float("nan"), float("nan")
    low, high = np.nanquantile(spread, (0.025, 0.975))
    return float(value), float(low), float(high)


Pair = tuple[Sequence[float], Sequence[float]]  # a base's values and a patched base's, one a prompt


def effect_kept(before: Pair, after: Pair, *, target: float, seed: int = 0,
                resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """The effect `after` as a share of the effect `before`: (share, low, high), all four lanes paired by prompt.

    1 is all of it, 0 none, below 0 the opposite. NaN where before there was no effect to keep.
    """
    return _of_effects([before, after], lambda moved: moved[1] / np.where(np.abs(moved[0]) < 1e-9, np.nan, moved[0]), target,
                       seed, resamples)


def _of_effects(pairs: Sequence[Pair], statistic: Callable[[list[np.ndarray]], np.ndarray], target: float, seed: int,
                resamples: int) -> tuple[float, float, float]:
    """A statistic of how far each pair moves towards `target`; a prompt without a number in any lane is left out."""
    lanes = np.asarray([lane for pair in pairs for lane in pair], dtype=np.float64)
    known = lanes[:, ~np.isnan(lanes).any(axis=0)]
    if known.shape[1] == 0:
        return float("nan"), float("nan"), float("nan")

    def of(means: np.ndarray) -> np.ndarray:
        away = np.abs(means - target)
        return statistic([away[k] - away[k + 1] for k in range(0, len(away), 2)])

    value = float(of(known.mean(axis=1)))
    if np.isin(known, (0, 1)).all() and np.all(known == known[:, :1]):  # rates of 0 or 1 that have no spread: see `interval`
        reach = 1.96**2 / (known.shape[1] + 1.96**2)
        return value, value - reach, value + reach
    spread = of(known[:, _draws(known.shape[1], seed, resamples)].mean(axis=2))
    if math.isnan(value) or np.isnan(spread).all():
        return value, float("nan"), float("nan")
    low, high = np.nanquantile(spread, (0.025, 0.975))
    return value, float(low), float(high)


def gain(first: Sequence[float], second: Sequence[float], *, best: float, share: bool = False, seed: int = 0,
         resamples: int = RESAMPLES) -> tuple[float, float, float, int]:
    """How much nearer to `best` the mean of `second` is than that of `first`, on the same prompts: (gain, low, high, n).

    Values are one a prompt; a prompt without a number on either side is left out. The interval is a paired 95 % bootstrap.
    Of a `share`, where every prompt differs alike, as by nothing, there is no spread to resample; it then reaches as far as
    Wilson's interval of as many prompts.
    """
    both = np.asarray([first, second], dtype=np.float64)
    known = both[:, ~np.isnan(both).any(axis=0)]
    n = known.shape[1]
    if n == 0:
        return float("nan"), float("nan"), float("nan"), 0
    away = np.abs(known.mean(axis=1) - best)
    value = float(away[0] - away[1])
    if share and np.ptp(known[1] - known[0]) == 0:
        reach = 1.96**2 / (n + 1.96**2)
        return value, max(-1.0, value - reach), min(1.0, value + reach), n
    draws = _draws(n, seed, resamples)
    spread = np.abs(known[:, draws].mean(axis=2) - best)
    low, high = np.quantile(spread[0] - spread[1], (0.025, 0.975))
    return value, float(low), float(high), n


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0,
           flips: int = FLIPS) -> tuple[float, float, float, float, int]:
    """How far `second` is from `first` on the same prompts: (mean difference, low, high, p, n).

    Values are one a prompt; a prompt without a number on either side is left out, and n counts the others. p is two-sided,
    from a permutation test that flips the signs of the per-prompt differences at random: were the lanes alike, either
    order of the two would be as likely.
    """
    both = np.asarray([first, second], dtype=np.float64)
    known = both[:, ~np.isnan(both).any(axis=0)]
    apart = known[1] - known[0]
    value, low, high = interval(apart.tolist(), seed=seed)
    if apart.size == 0:
        return value, low, high, float("nan"), 0
    random = np.random.default_rng(seed)
    # in blocks, so that thousands of prompts do not need gigabytes
    sums = np.concatenate([(random.integers(0, 2, size=(500, apart.size), dtype=np.int8) * 2 - 1) @ apart
                           for _ in range(max(1, flips // 500))])
    as_far = np.abs(sums) >= abs(apart.sum()) - 1e-9
    return value, low, high, float((1 + as_far.sum()) / (1 + as_far.size)), int(apart.size)


def kappa(first: Sequence[bool], second: Sequence[bool], prompts: Sequence[object], *,
          seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """Cohen's kappa of two judges' verdicts on the same texts, with a bootstrap interval over prompts (Cohen 1960).

    1 is full agreement, 0 what chance gives. NaN where both judges give all texts the same verdict: there is nothing to
    agree on beyond chance.
    """
    place = {prompt: k for k, prompt in enumerate(dict.fromkeys(prompts))}
    counts = np.zeros((len(place), 4))  # a prompt's texts, those both flag, those the first flags, those the second does
    for a, b, prompt in zip(first, second, prompts, strict=True):
        counts[place[prompt]] += (1, a and b, a, b)
    if not len(counts):
        return float("nan"), float("nan"), float("nan")

    def of(sums: np.ndarray) -> np.ndarray:
        n, together, a, b = np.moveaxis(sums, -1, 0)
        agreed = (n - a - b + 2 * together) / n
        chance = (a * b + (n - a) * (n - b)) / n**2
        return (agreed - chance) / np.where(chance >= 1 - 1e-12, np.nan, 1 - chance)

    value = float(of(counts.sum(axis=0)))
    spread = of(counts[_draws(len(counts), seed, resamples)].sum(axis=1))
    if math.isnan(value) or np.isnan(spread).all():
        return value, float("nan"), float("nan")
    low, high = np.nanquantile(spread, (0.025, 0.975))
    return value, float(low), float(high)


def _draws(n: int, seed: int, resamples: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))
