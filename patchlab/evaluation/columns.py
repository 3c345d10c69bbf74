"""Columns: the values of a metric, one per prompt of a lane; and the measures, comparisons and agreements computed from them.

`columns` is the only function that resolves a metric's name to values: from the text, a scorer's verdicts, or a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from patchlab.engine import Lane
from patchlab.evaluation.metrics import METRICS, Judged, Verdicts, prompts_of
from patchlab.evaluation.model_metrics import MODELLED, Figure, Judges
from patchlab.evaluation.statistics import interval, kappa, paired
from patchlab.records import Agreement, Comparison, Measure, Prompt, Reply
from patchlab.scoring import load_scorer


@dataclass(frozen=True, slots=True)
class Column:
    """A metric of a lane on a suite by one scorer: one value for each of `prompts`, NaN where it is undefined.

    `second` marks the values of a second scorer for the same metric; `digest` is the scorer's.
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
        """The values that are not NaN."""
        return [value for value in self.values if not math.isnan(value)]


def columns(suite: str, metric: str, lane: Lane, replies: Sequence[Reply], judges: Judges) -> Iterator[Column]:
    """A metric's column for the replies of a lane, then one for each further scorer of the metric."""
    definition = METRICS.get(metric)
    figures: Iterable[Figure]
    if definition is None:
        figures = MODELLED[metric](judges, lane, replies)
    elif isinstance(definition, Judged):
        figures = ((name, load_scorer(name).digest, definition.compute(replies, judges.verdicts.of(name, replies)))
                   for name in judges.verdicts.judges.of(definition.claim))
    else:
        figures = [(definition.scorer, definition.digest, definition.compute(replies))]
    prompts = tuple(prompts_of(replies))
    for k, (scorer, digest, values) in enumerate(figures):
        yield Column(suite, lane.name, metric, scorer, prompts, tuple(values), second=k > 0, digest=digest)


def measure(column: Column, *, seed: int) -> Iterator[Measure]:
    """The mean of a column with its interval; a log-loss also as perplexity, the exponential of mean and interval."""
    known = column.known
    value, low, high = interval(known, seed=seed, share="_rate" in column.metric)
    mean = Measure(column.suite, column.lane, column.metric, value, low, high, len(known), column.scorer)
    yield mean
    if column.metric == "log_loss":
        yield replace(mean, metric="perplexity", value=math.exp(value), low=math.exp(low), high=math.exp(high))


def by_domain(column: Column) -> list[Column]:
    """The column divided by the domain of its prompts, which is appended to the metric's name."""
    return _divided(column, lambda prompt: prompt.domain, "_")


def by_occupation(column: Column) -> list[Column]:
    """The column divided by occupation, for prompts whose id is female:OCCUPATION:NUMBER or male:OCCUPATION:NUMBER."""
    def occupation(prompt: Prompt) -> str:
        gender, *rest = prompt.id.split(":")
        return rest[0] if gender in ("female", "male") and len(rest) > 1 else ""

    return _divided(column, occupation, ": ")


def _divided(column: Column, group_of: Callable[[Prompt], str], separator: str) -> list[Column]:
    places: dict[str, list[int]] = {}
    for k, prompt in enumerate(column.prompts):
        if group := group_of(prompt):
            places.setdefault(group, []).append(k)
    return [replace(column, metric=f"{column.metric}{separator}{group}", prompts=tuple(column.prompts[k] for k in members),
                    values=tuple(column.values[k] for k in members)) for group, members in sorted(places.items())]


def comparisons(columns: Sequence[Column], lanes: Sequence[str], *, seed: int) -> Iterator[Comparison]:
    """Each lane against the one before it, on every metric that the same scorer computed for both on the same prompts."""
    by_lane = {(c.suite, c.metric, c.scorer, c.lane): c for c in columns}
    for first, second in pairwise(lanes):
        for (suite, metric, scorer, lane), column in by_lane.items():
            other = by_lane.get((suite, metric, scorer, first))
            if lane == second and other is not None and other.prompts == column.prompts:
                yield Comparison(suite, metric, first, second, *paired(other.values, column.values, seed=seed), scorer)


def agreements(suite: str, metrics: Sequence[str], replies: Sequence[Reply], verdicts: Verdicts, *,
               seed: int) -> Iterator[Agreement]:
    """Cohen's kappa between the two scorers of a suite's metrics, on the replies that both judged."""
    for claim in dict.fromkeys(how.claim for how in map(METRICS.get, metrics) if isinstance(how, Judged)):
        first, second = verdicts.judges.of(claim)
        pairs = zip(verdicts.of(first, replies), verdicts.of(second, replies), replies, strict=True)
        both = [(a.flagged, b.flagged, reply.prompt.key) for a, b, reply in pairs if a.known and b.known]
        if not both:
            continue
        a, b, prompts = zip(*both, strict=True)
        value, low, high = kappa(a, b, prompts, seed=seed)
        alike = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
        yield Agreement(suite, first, second, value, low, high, alike, len(a))
