"""Means with 95 % intervals, paired comparisons of lanes, and agreement of judges.

A share whose prompts each count 0 or 1 has a Wilson interval; everything else a seeded percentile bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 2000  # of a bootstrap
FLIPS = 10_000  # sign flips of a paired test: its smallest p-value is 0.0001
BLOCK = 1_000_000  # random numbers drawn at a time

Interval = tuple[float, float, float]  # value, low, high
Pair = tuple[Sequence[float], Sequence[float]]  # values of a base and of the patched base, one per prompt
UNDEFINED = math.nan, math.nan, math.nan


def wilson(count: int, n: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % score interval of `count` in `n`; both rise with `count` (Wilson 1927)."""
    from scipy import stats  # its import takes longer than that of the whole command line

    ends = stats.binomtest(count, n).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def interval(values: Sequence[float], *, seed: int = 0, share: bool = False) -> Interval:
    """The mean of `values` (one per prompt) and its 95 % interval: (mean, low, high).

    A `share` has a Wilson interval if every value is 0 or 1. Otherwise, as for means of several samples, it is the bootstrap
    interval, extended to the Wilson interval of n zeros and of n ones where it is narrower.
    """
    data = np.asarray(values, dtype=np.float64)
    if share and data.size and np.isin(data, (0, 1)).all():
        return float(data.mean()), *wilson(int(data.sum()), data.size)
    value, low, high = _bootstrap(data[None], lambda means: means[0], seed)
    if share and data.size:
        reach = wilson(0, data.size)[1]
        return value, min(low, 1 - reach), max(high, reach)
    return value, low, high


def meets(bar: str, low: float, high: float) -> bool:
    """Whether an interval meets a bar such as "<= 0.05" with the end that could fail it, up to rounding."""
    sign, limit = bar.split()
    return high <= float(limit) + 1e-9 if sign == "<=" else low >= float(limit) - 1e-9


def gap_closed(base: Sequence[float], patched: Sequence[float], reference: Sequence[float], *, target: float | None = None,
               seed: int = 0) -> Interval:
    """(base - patched) / (base - reference) of the means, with a paired bootstrap interval over prompts.

    Values are one per prompt, in the same order. With `target` (0.5 for balanced pronouns) each mean is replaced by its distance
    from it, so that overshooting reduces the share. NaN if base and reference are equal.
    """
    def closed(means: np.ndarray) -> np.ndarray:
        b, p, r = means if target is None else np.abs(means - target)
        return (b - p) / np.where(np.abs(b - r) < 1e-9, np.nan, b - r)

    return _bootstrap(np.asarray([base, patched, reference], dtype=np.float64), closed, seed)


def effect_kept(before: Pair, after: Pair, *, target: float, seed: int = 0) -> Interval:
    """The effect `after` divided by the effect `before`: (share, low, high), all four lanes paired by prompt.

    The effect of a pair is how much nearer to `target` its second mean is than its first: a share of 1 is the whole effect,
    below 0 an opposite one. NaN if there was no effect before. Prompts with NaN in any lane are left out.
    """
    def kept(means: np.ndarray) -> np.ndarray:
        distance = np.abs(means - target)
        effect = distance[0] - distance[1]
        return (distance[2] - distance[3]) / np.where(np.abs(effect) < 1e-9, np.nan, effect)

    lanes = _complete([*before, *after])
    value, low, high = _bootstrap(lanes, kept, seed)
    if lanes.size and np.isin(lanes, (0, 1)).all() and np.all(lanes == lanes[:, :1]):  # all prompts alike: bootstrap width 0
        reach = wilson(0, lanes.shape[1])[1]
        return value, value - reach, value + reach
    return value, low, high


def gain(first: Sequence[float], second: Sequence[float], *, best: float, share: bool = False,
         seed: int = 0) -> tuple[float, float, float, int]:
    """How much nearer to `best` the mean of `second` is than that of `first`, on the same prompts: (gain, low, high, n).

    Values are one per prompt; prompts with NaN on either side are left out. The interval is a paired 95 % bootstrap; for a
    `share` its ends are at least as far from the gain as the Wilson interval of n zeros is wide.
    """
    lanes = _complete([first, second])
    n = lanes.shape[1]
    value, low, high = _bootstrap(lanes, lambda means: np.abs(means[0] - best) - np.abs(means[1] - best), seed)
    if share and n:
        reach = wilson(0, n)[1]
        return value, max(-1.0, min(low, value - reach)), min(1.0, max(high, value + reach)), n
    return value, low, high, n


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> tuple[float, float, float, float, int]:
    """The mean difference of `second` minus `first` on the same prompts: (difference, low, high, p, n).

    Values are one per prompt; prompts with NaN on either side are left out, n counts the others. p is two-sided, from a
    permutation test that flips the signs of the differences: all 2^n combinations if at most FLIPS, else FLIPS random ones.
    """
    lanes = _complete([first, second])
    differences = lanes[1] - lanes[0]
    if differences.size == 0:
        return *UNDEFINED, math.nan, 0
    # scipy's permutation_test gives the same and takes 40 times as long
    sums = np.concatenate([signs @ differences for signs in _signs(differences.size, seed)])
    extreme = int((np.abs(sums) >= abs(differences.sum()) - 1e-9).sum())
    p = extreme / sums.size if sums.size == 2**differences.size else (1 + extreme) / (1 + sums.size)
    return *interval(differences.tolist(), seed=seed), p, int(differences.size)


def kappa(first: Sequence[bool], second: Sequence[bool], prompts: Sequence[object], *, seed: int = 0) -> Interval:
    """Cohen's kappa of two judges' verdicts on the same texts, with a bootstrap interval over prompts (Cohen 1960).

    1 is full agreement, 0 chance agreement. NaN if both judges give all texts the same verdict.
    """
    place = {prompt: k for k, prompt in enumerate(dict.fromkeys(prompts))}
    counts = np.zeros((4, len(place)))  # per prompt: texts, flagged by both, by the first, by the second
    for a, b, prompt in zip(first, second, prompts, strict=True):
        counts[:, place[prompt]] += (1, a and b, a, b)

    def agreement(means: np.ndarray) -> np.ndarray:
        n, both, a, b = means
        agreed = (n - a - b + 2 * both) / n
        chance = (a * b + (n - a) * (n - b)) / n**2
        return (agreed - chance) / np.where(chance >= 1 - 1e-12, np.nan, 1 - chance)

    return _bootstrap(counts, agreement, seed)


def _complete(lanes: Sequence[Sequence[float]]) -> np.ndarray:
    """The lanes [k, n] without the prompts that are NaN in one of them."""
    values = np.asarray(lanes, dtype=np.float64)
    return values[:, ~np.isnan(values).any(axis=0)]


def _bootstrap(lanes: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int) -> Interval:
    """A statistic of the means of `lanes` [k, n], and its percentile interval over resampled prompts; NaN if undefined."""
    n = lanes.shape[1]
    if n == 0:
        return UNDEFINED
    mean = np.nanmean if np.isnan(lanes).any() else np.mean
    value = float(statistic(mean(lanes, axis=1)))
    if math.isnan(value):
        return UNDEFINED
    random = np.random.default_rng(seed)
    spread = np.concatenate([statistic(mean(lanes[:, random.integers(0, n, size=(rows, n))], axis=2))
                             for rows in _blocks(RESAMPLES, n)])
    if np.isnan(spread).all():
        return UNDEFINED
    low, high = np.nanquantile(spread, (0.025, 0.975))
    return value, float(low), float(high)


def _signs(n: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of `n` signs, in blocks: all 2^n rows if at most FLIPS, else FLIPS random ones."""
    if 2**n <= FLIPS:
        yield (np.arange(2**n)[:, None] >> np.arange(n) & 1) * 2 - 1
        return
    random = np.random.default_rng(seed)
    for rows in _blocks(FLIPS, n, most=500):
        yield random.integers(0, 2, size=(rows, n), dtype=np.int8) * 2 - 1


def _blocks(rows: int, width: int, *, most: int = BLOCK) -> Iterator[int]:
    """`rows` divided into parts of at most about BLOCK numbers, which bounds the memory for thousands of prompts."""
    block = max(1, min(most, BLOCK // width))
    yield from (min(block, rows - start) for start in range(0, rows, block))
