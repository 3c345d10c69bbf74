"""Measures what each strength of a patch does: its own suite, refusals of harmless requests, and drift from the base.

On held-out prompts, as a patch's evidence is; a strength is chosen on dev prompts (see dev.py) and not here.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from patchlab.engine import Bank, Lane, Sampling, replies
from patchlab.errors import NotFoundError
from patchlab.evaluation.columns import Column, measure
from patchlab.evaluation.metrics import METRICS, Judged, by_prompt, prompts_of, scores
from patchlab.evaluation.probabilities import divergences
from patchlab.evaluation.suites import DOMAINS, HEADLINES, SUITES, load_prompts
from patchlab.models import Backbone
from patchlab.patches import Curve, Patch, Point
from patchlab.records import Measure, Progress, Prompt, Reply

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0)  # up to the most a stack may ask


def measure_curve(backbone: Backbone, patch: Patch, *, n: int = 100, seed: int = 0, sampling: Sampling | None = None,
                  folder: Path | None = None) -> Generator[Progress, None, Curve]:
    """Draw replies at strength 0, others up to the strongest and the patch's own; yields progress and returns the curve.

    `n` prompts a file of a suite are asked, from `folder` (the embedded ones by default). Raises NotFoundError for a patch
    of a domain without a suite, BaseMismatchError for one of another base.
    """
    domain = patch.manifest.domain
    if domain not in DOMAINS:
        raise NotFoundError.of("domain", domain, DOMAINS)
    segment, sampling = Bank(backbone).segment([patch]), sampling or Sampling(seed=seed)
    suites = {name: load_prompts(name, n=n, folder=folder) for name in (domain, "overrefusal")}
    harmless = [reply for reply in _said(Lane("base", backbone), load_prompts("drift", n=n, folder=folder), 1, sampling)
                if reply.text]
    points: list[Point] = []
    strengths = sorted({*STRENGTHS, float(patch.manifest.strength)})
    for strength in strengths:
        lane = Lane("patched", backbone, ((segment, strength),))
        columns = [_column(lane, name, HEADLINES[name].metric, prompts, sampling) for name, prompts in suites.items()]
        if harmless:
            moved = by_prompt(harmless, divergences(backbone, harmless, lane.parts))
            columns.append(Column("drift", lane.name, "kl_to_base", backbone.name, tuple(prompts_of(harmless)), tuple(moved)))
        found = tuple(figure for column in columns if column.known for figure in measure(column, seed=seed))
        points.append(Point(strength, found))
        yield Progress("curve", len(points), len(strengths), _words(strength, found))
    return Curve(tuple(points))


def _said(lane: Lane, prompts: Sequence[Prompt], samples: int, sampling: Sampling) -> list[Reply]:
    return [reply for chunk in replies([lane], prompts, samples=samples, sampling=sampling) for reply in chunk]


def _column(lane: Lane, suite: str, metric: str, prompts: Sequence[Prompt], sampling: Sampling) -> Column:
    """A headline metric of a suite, by its first scorer."""
    said, how = _said(lane, prompts, SUITES[suite].samples, sampling), METRICS[metric]
    if isinstance(how, Judged):
        scorer, values = how.scorers[0], how.compute(said, scores(how.scorers[0], said))
    else:
        scorer, values = how.scorer, how.compute(said)
    return Column(suite, lane.name, metric, scorer, tuple(prompts_of(said)), tuple(values))


def _words(strength: float, found: Sequence[Measure]) -> str:
    return f"strength {strength:g}: " + ", ".join(f"{m.suite} {m.metric} {m.value:.3f}" for m in found)
