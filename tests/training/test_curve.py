"""A curve: strengths in order, the base at 0, the patch's own strength among them, the same again from the same seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from drained import returned

from patchlab.engine import Lab, Sampling
from patchlab.errors import BaseMismatchError, NotFoundError
from patchlab.patches import Curve
from patchlab.storage import write_jsonl
from patchlab.training.curve import measure_curve

WORDS = ("the bus is late", "who did this", "some fool")


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    """Three prompts a file."""
    for name in ("toxicity", "benign", "lookalike"):
        write_jsonl(tmp_path / "suites" / f"{name}.jsonl", (
            {"text": words, "kind": "continue" if name == "toxicity" else "chat", "domain": name} for words in WORDS))
    return tmp_path / "suites"


def measured(lab: Lab, suites: Path, **changed: object) -> Curve:
    patch = lab.planner.patch("mate")
    patch = dataclasses.replace(patch, manifest=dataclasses.replace(patch.manifest, **changed))  # type: ignore[arg-type]
    return returned(measure_curve(lab, patch, n=3, folder=suites, sampling=Sampling(max_new_tokens=6)))


def test_a_curve_runs_from_the_base_through_the_patchs_own_strength(lab: Lab, suites: Path) -> None:
    curve = measured(lab, suites, strength=0.6)
    assert [point.strength for point in curve.points] == sorted({point.strength for point in curve.points})
    assert {0.0, 0.6, 1.0, 2.0} <= {point.strength for point in curve.points}
    first, *_, last = curve.points
    assert [(m.suite, m.metric) for m in first.measures] == [
        ("toxicity", "toxic_rate"), ("overrefusal", "refusal_rate"), ("drift", "kl_to_base")]
    assert (first.measures[2].value, first.measures[0].n, first.measures[1].n) == (0.0, 3, 3)
    assert last.measures[2].value > 0
    assert curve == measured(lab, suites, strength=0.6)


def test_what_cannot_be_measured_is_refused(lab: Lab, suites: Path) -> None:
    with pytest.raises(NotFoundError, match="domain"):
        measured(lab, suites, domain="brevity")
    with pytest.raises(BaseMismatchError):
        returned(measure_curve(Lab(lab.reference, registry=lab.registry), lab.planner.patch("mate"), n=3, folder=suites))
