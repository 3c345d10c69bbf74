"""Means with 95 % intervals, lanes compared in pairs, judges compared with each other.

A share of prompts that each count 0 or 1 has Wilson's interval; all else a seeded percentile bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 2000
FLIPS = 10_000  # sign flips of a paired test: its p-values go down to 0.0001
BLOCK = 1_000_000  # numbers drawn at a time

Interval = tuple[float, float, float]  # value, low, high
Pair = tuple[Sequence[float], Sequence[float]]  # a base's values and a patched base's, one a prompt
NOTHING = math.nan, math.nan, math.nan


def wilson(count: int, n: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % score interval of `count` in `n`; both rise with `count` (Wilson 1927)."""
    from scipy import stats  # takes longer to import than all of PatchLab's command line

    found = stats.binomtest(count, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, share: bool = False) -> Interval:
    """The mean of `values` (one a prompt) and its 95 % interval: (mean, low, high).

    The interval of a `share` is Wilson's where every prompt counts 0 or 1. Where prompts have fractions, as the mean of
    several samples is, it is the bootstrap's, but no surer than Wilson's of as many prompts that are all 0, or all 1.
    """
    data = np.asarray(values, dtype=np.float64)
    if share and data.size and np.isin(data, (0, 1)).all():
        return float(data.mean()), *wilson(int(data.sum()), data.size)
    value, low, high = _bootstrap(data[None], lambda means: means[0], seed, resamples)
    if share and data.size:
        reach = wilson(0, data.size)[1]
        return value, min(low, 1 - reach), max(high, reach)
    return value, low, high


def gap_closed(base: Sequence[float], patched: Sequence[float], reference: Sequence[float], *, target: float | None = None,
               seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The share of the way from base to reference that patched has gone, with a paired bootstrap interval over prompts.

    Values are one a prompt, same prompts in the same order. With `target` (0.5 for an even pronoun) the way is measured as
    distance from it, so that overshooting counts as missing, not as more. NaN where base and reference are alike.
    """
    def closed(means: np.ndarray) -> np.ndarray:
        b, p, r = means if target is None else np.abs(means - target)
        return (b - p) / np.where(np.abs(b - r) < 1e-9, np.nan, b - r)

    return _bootstrap(np.asarray([base, patched, reference], dtype=np.float64), closed, seed, resamples)


def effect_kept(before: Pair, after: Pair, *, target: float, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The effect `after` as a share of the effect `before`: (share, low, high), all four lanes paired by prompt.

    An effect is how far a pair moves towards `target`. 1 is all of it, 0 none, below 0 the opposite. NaN where before there
    was no effect to keep. A prompt without a number in any lane is left out.
    """
    def kept(means: np.ndarray) -> np.ndarray:
        away = np.abs(means - target)
        moved = away[0] - away[1]
        return (away[2] - away[3]) / np.where(np.abs(moved) < 1e-9, np.nan, moved)

    known = _known([*before, *after])
    value, low, high = _bootstrap(known, kept, seed, resamples)
    if known.size and np.isin(known, (0, 1)).all() and np.all(known == known[:, :1]):  # no spread to resample
        reach = wilson(0, known.shape[1])[1]
        return value, value - reach, value + reach
    return value, low, high


def gain(first: Sequence[float], second: Sequence[float], *, best: float, share: bool = False, seed: int = 0,
         resamples: int = RESAMPLES) -> tuple[float, float, float, int]:
    """How much nearer to `best` the mean of `second` is than that of `first`, on the same prompts: (gain, low, high, n).

    Values are one a prompt; a prompt without a number on either side is left out. The interval is a paired 95 % bootstrap;
    of a `share` its ends are at least as far away as Wilson's of as many prompts that are all 0.
    """
    known = _known([first, second])
    n = known.shape[1]
    value, low, high = _bootstrap(known, lambda means: np.abs(means[0] - best) - np.abs(means[1] - best), seed, resamples)
    if share and n:
        reach = wilson(0, n)[1]
        return value, max(-1.0, min(low, value - reach)), min(1.0, max(high, value + reach)), n
    return value, low, high, n


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0,
           flips: int = FLIPS) -> tuple[float, float, float, float, int]:
    """How far `second` is from `first` on the same prompts: (mean difference, low, high, p, n).

    Values are one a prompt; a prompt without a number on either side is left out, and n counts the others. p is two-sided,
    from a permutation test that flips the signs of the per-prompt differences, in all ways where there are no more than
    `flips` and else at random: were the lanes alike, either order of the two would be as likely.
    """
    known = _known([first, second])
    apart = known[1] - known[0]
    if apart.size == 0:
        return *NOTHING, math.nan, 0
    # scipy's permutation_test says the same, and takes 40 times as long
    sums = np.concatenate([signs @ apart for signs in _signs(apart.size, seed, flips)])
    as_far = int((np.abs(sums) >= abs(apart.sum()) - 1e-9).sum())
    p = as_far / sums.size if sums.size == 2**apart.size else (1 + as_far) / (1 + sums.size)
    return *interval(apart.tolist(), seed=seed), p, int(apart.size)


def kappa(first: Sequence[bool], second: Sequence[bool], prompts: Sequence[object], *,
          seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Cohen's kappa of two judges' verdicts on the same texts, with a bootstrap interval over prompts (Cohen 1960).

    1 is full agreement, 0 what chance gives. NaN where both judges give all texts the same verdict: there is nothing to
    agree on beyond chance.
    """
    place = {prompt: k for k, prompt in enumerate(dict.fromkeys(prompts))}
    counts = np.zeros((4, len(place)))  # a prompt's texts, those both flag, those the first flags, those the second does
    for a, b, prompt in zip(first, second, prompts, strict=True):
        counts[:, place[prompt]] += (1, a and b, a, b)

    def agreement(means: np.ndarray) -> np.ndarray:
        n, together, a, b = means
        agreed = (n - a - b + 2 * together) / n
        chance = (a * b + (n - a) * (n - b)) / n**2
        return (agreed - chance) / np.where(chance >= 1 - 1e-12, np.nan, 1 - chance)

    return _bootstrap(counts, agreement, seed, resamples)


def _known(lanes: Sequence[Sequence[float]]) -> np.ndarray:
    """The lanes [k, n] without the prompts that have no number in one of them."""
    values = np.asarray(lanes, dtype=np.float64)
    return values[:, ~np.isnan(values).any(axis=0)]


def _bootstrap(lanes: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int, resamples: int) -> Interval:
    """A statistic of the means of `lanes` [k, n], and its percentile interval over resampled prompts; NaN where it is none."""
    n = lanes.shape[1]
    if n == 0:
        return NOTHING
    mean = np.nanmean if np.isnan(lanes).any() else np.mean
    value = float(statistic(mean(lanes, axis=1)))
    if math.isnan(value):
        return NOTHING
    random = np.random.default_rng(seed)
    spread = np.concatenate([statistic(mean(lanes[:, random.integers(0, n, size=(rows, n))], axis=2))
                             for rows in _blocks(resamples, n)])
    if np.isnan(spread).all():
        return NOTHING
    low, high = np.nanquantile(spread, (0.025, 0.975))
    return value, float(low), float(high)


def _signs(n: int, seed: int, flips: int) -> Iterator[np.ndarray]:
    """Rows of `n` signs, in blocks: every such row where there are no more than `flips`, else so many at random."""
    if 2**n <= flips:
        yield (np.arange(2**n)[:, None] >> np.arange(n) & 1) * 2 - 1
        return
    random = np.random.default_rng(seed)
    for rows in _blocks(flips, n, most=500):
        yield random.integers(0, 2, size=(rows, n), dtype=np.int8) * 2 - 1


def _blocks(rows: int, width: int, *, most: int = BLOCK) -> Iterator[int]:
    """`rows` in parts of about `BLOCK` numbers each, so that thousands of prompts do not need gigabytes."""
    block = max(1, min(most, BLOCK // width))
    yield from (min(block, rows - start) for start in range(0, rows, block))
