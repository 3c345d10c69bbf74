"""Columns, one value a prompt of a lane, and what is made of them: figures, finer figures, comparisons, agreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from patchlab.evaluation.statistics import interval, kappa, paired
from patchlab.records import Agreement, Comparison, Measure, Prompt, Reply, Score


@dataclass(frozen=True, slots=True)
class Column:
    """A metric of a lane on a suite by a scorer: one value for each of `prompts`, NaN where there is none.

    `second` marks the verdict of a second scorer on what another column says.
    """

    suite: str
    lane: str
    metric: str
    scorer: str
    prompts: tuple[Prompt, ...]
    values: tuple[float, ...]
    second: bool = False

    @property
    def known(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if not math.isnan(value)]


def measure(column: Column, *, seed: int) -> Iterator[Measure]:
    """The figure of a column; a log-loss is also given as perplexity, the exponential of a mean and of its interval."""
    known = column.known
    value, low, high = interval(known, seed=seed, share="_rate" in column.metric)
    found = Measure(column.suite, column.lane, column.metric, value, low, high, len(known), column.scorer)
    yield found
    if column.metric == "log_loss":
        yield replace(found, metric="perplexity", value=math.exp(value), low=math.exp(low), high=math.exp(high))


def by_domain(column: Column) -> list[Column]:
    """The column divided by the domain of its prompts; the metric's name says which."""
    return _divided(column, lambda prompt: prompt.domain, "_")


def by_occupation(column: Column) -> list[Column]:
    """The column divided by occupation, where the prompts' ids say LEANING:OCCUPATION:NUMBER."""
    def occupation(prompt: Prompt) -> str:
        leaning, *rest = prompt.id.split(":")
        return rest[0] if leaning in ("female", "male") and len(rest) > 1 else ""

    return _divided(column, occupation, ": ")


def _divided(column: Column, name: Callable[[Prompt], str], mark: str) -> list[Column]:
    places: dict[str, list[int]] = {}
    for k, prompt in enumerate(column.prompts):
        if group := name(prompt):
            places.setdefault(group, []).append(k)
    return [replace(column, metric=f"{column.metric}{mark}{group}", prompts=tuple(column.prompts[k] for k in some),
                    values=tuple(column.values[k] for k in some)) for group, some in sorted(places.items())]


def comparisons(columns: Sequence[Column], lanes: Sequence[str], *, seed: int) -> Iterator[Comparison]:
    """Each lane against the one before it, on every metric that the same scorer gave both for the same prompts."""
    by_lane = {(c.suite, c.metric, c.scorer, c.lane): c for c in columns}
    for first, second in pairwise(lanes):
        for (suite, metric, scorer, lane), column in by_lane.items():
            other = by_lane.get((suite, metric, scorer, first))
            if lane != second or other is None or other.prompts != column.prompts:
                continue
            difference, low, high, p, n = paired(other.values, column.values, seed=seed)
            yield Comparison(suite, metric, first, second, difference, low, high, p, n, scorer)


def agreements(verdicts: Mapping[tuple[str, str], Sequence[tuple[Reply, Score]]], pair: Sequence[str], *,
               seed: int) -> Iterator[Agreement]:
    """How far two scorers agree on the replies of all lanes of each suite that both have judged."""
    first, second = pair
    for suite in [suite for suite, scorer in verdicts if scorer == first and (suite, second) in verdicts]:
        one, two = verdicts[suite, first], verdicts[suite, second]
        a, b = [score.flagged for _, score in one], [score.flagged for _, score in two]
        value, low, high = kappa(a, b, [reply.prompt.text for reply, _ in one], seed=seed)
        alike = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
        yield Agreement(suite, first, second, value, low, high, alike, len(a))
