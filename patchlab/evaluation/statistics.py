"""Means with intervals. Every figure PatchLab prints comes through here: n, a 95 % bootstrap interval, a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000

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


def _draws(n: int, seed: int, resamples: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))
