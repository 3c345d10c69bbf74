"""Measures a patch at each strength: the suite of its domain, refusals of harmless requests, and drift from the base.

On held-out prompts, as a patch's evidence is; the strength itself is chosen on calibration prompts and not here.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from patchlab.engine import Lab, Lane, Sampling, StackPlan, fixed, replies
from patchlab.errors import NotFoundError
from patchlab.evaluation.columns import columns, measure
from patchlab.evaluation.metrics import Verdicts
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.suites import DOMAINS, HEADLINES, SUITES, load_prompts
from patchlab.patches import Curve, Patch, Point
from patchlab.records import Progress

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0)  # up to the most a stack may ask


def measure_curve(lab: Lab, patch: Patch, *, n: int = 100, seed: int = 0, sampling: Sampling | None = None,
                  folder: Path | None = None) -> Generator[Progress, None, Curve]:
    """Draw replies at strength 0, others up to the strongest and the patch's own; yields progress and returns the curve.

    `n` prompts a file of a suite are asked, from `folder` (the embedded ones by default). Raises NotFoundError for a patch
    of a domain without a suite, BaseMismatchError for one of another base.
    """
    domain = patch.manifest.domain
    if domain not in DOMAINS:
        raise NotFoundError.of("domain", domain, DOMAINS)
    segment, sampling = lab.planner.bank.segment([patch]), sampling or Sampling(seed=seed)
    suites = {name: load_prompts(name, n=n, folder=folder) for name in (domain, "overrefusal")}
    base_replies = replies(lab.lanes(names=["base"]), load_prompts("drift", n=n, folder=folder), sampling=sampling)
    points: list[Point] = []
    strengths = sorted({*STRENGTHS, float(patch.manifest.strength)})
    for strength in strengths:
        lane = Lane("patched", lab.scheduler, fixed(StackPlan.of((segment, strength))))
        judges = Judges(lab.base, verdicts=Verdicts(lab.judges))
        drawn = {name: replies([lane], prompts, samples=SUITES[name].samples, sampling=sampling)
                 for name, prompts in suites.items()} | {"drift": base_replies}
        # by its first scorer only
        found = [next(columns(name, HEADLINES[name].metric, lane, some, judges)) for name, some in drawn.items()]
        points.append(Point(strength, tuple(each for column in found if column.known for each in measure(column, seed=seed))))
        yield Progress("curve", len(points), len(strengths), _message(points[-1]))
    return Curve(tuple(points))


def _message(point: Point) -> str:
    return f"strength {point.strength:g}: " + ", ".join(f"{m.suite} {m.metric} {m.value:.3f}" for m in point.measures)
