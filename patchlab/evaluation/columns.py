"""Columns, one value a prompt of a lane, and what is made of them: figures, finer figures, comparisons, agreement.

Only `columns` knows how a metric's name becomes values: from words, from a scorer's verdicts, or from a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from patchlab.engine import Lane
from patchlab.evaluation.metrics import METRICS, Judged, Verdicts, present, prompts_of
from patchlab.evaluation.model_metrics import MODELLED, Figure, Judges
from patchlab.evaluation.statistics import interval, kappa, paired
from patchlab.records import Agreement, Comparison, Measure, Prompt, Reply
from patchlab.scoring import load_scorer


@dataclass(frozen=True, slots=True)
class Column:
    """A metric of a lane on a suite by a scorer: one value for each of `prompts`, NaN where there is none.

    `second` marks the verdict of a second scorer on what another column says; `digest` is the scorer's.
    """

    suite: str
    lane: str
    metric: str
    scorer: str
    prompts: tuple[Prompt, ...]
    values: tuple[float, ...]
    second: bool = False
    digest: str = ""

    @property
    def known(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if not math.isnan(value)]


def columns(suite: str, metric: str, lane: Lane, replies: Sequence[Reply], judges: Judges) -> Iterator[Column]:
    """A metric's column for the replies of a lane, then one for each further scorer it can be judged by."""
    how = METRICS.get(metric)
    figures: Iterable[Figure]
    if how is None:
        figures = MODELLED[metric](judges, lane, replies)
    elif isinstance(how, Judged):
        figures = ((name, load_scorer(name).digest, how.compute(replies, judges.verdicts.of(name, replies)))
                   for name in present(how.scorers))
    else:
        figures = [(how.scorer, how.digest, how.compute(replies))]
    prompts = tuple(prompts_of(replies))
    for k, (scorer, digest, values) in enumerate(figures):
        yield Column(suite, lane.name, metric, scorer, prompts, tuple(values), second=k > 0, digest=digest)


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


def agreements(suite: str, metrics: Sequence[str], replies: Sequence[Reply], verdicts: Verdicts, *,
               seed: int) -> Iterator[Agreement]:
    """How far the two scorers of a suite's metrics agree on the replies of all lanes, where both are there."""
    for first, second in dict.fromkeys(how.scorers for how in map(METRICS.get, metrics) if isinstance(how, Judged)):
        if len(present((first, second))) < 2:
            continue
        a, b = ([score.flagged for score in verdicts.of(name, replies)] for name in (first, second))
        value, low, high = kappa(a, b, [reply.prompt.key for reply in replies], seed=seed)
        alike = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
        yield Agreement(suite, first, second, value, low, high, alike, len(a))
