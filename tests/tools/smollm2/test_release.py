"""The strength a patch of the real model is released at, and what its effect is read from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from benchmarks.provenance import held_out
from patchlab.engine import load
from tools.smollm2.__main__ import parser
from tools.smollm2.release import Read, best_of, read


def test_the_lowest_strength_that_is_nearly_the_best_and_reads_well_is_taken() -> None:
    weak, near, best = Read(0.5, 0.4, 0.6, 80), Read(0.79, 0.7, 0.9, 80), Read(0.8, 0.7, 0.9, 80)
    dear = Read(1.0, 0.9, 1.0, 80, perplexity=1.3)
    assert best_of([(1.0, weak), (1.5, near), (2.0, best), (2.5, dear)]) == (1.5, near)
    assert best_of([(1.0, dear), (2.0, dear)]) == (1.0, dear)


def test_a_share_counts_prompts_that_could_be_judged() -> None:
    found = Read.of([1.0, 0.0, math.nan, 1.0])
    assert (found.effect, found.n) == (pytest.approx(2 / 3), 3) and found.low < found.effect < found.high


def test_the_effect_on_pronouns_is_read_from_the_model_and_nothing_without_the_patch(tmp_path: Path) -> None:
    lab = load("pocket")
    patch = lab.planner.patch("bias")
    off = dataclasses.replace(patch, manifest=dataclasses.replace(patch.manifest, strength=1e-9))
    prompts = held_out(20)["bias"]
    found, nothing = read(lab, patch, prompts, tmp_path / "on"), read(lab, off, prompts, tmp_path / "off")
    assert abs(nothing.effect) < 1e-3 and found.effect > 0.2 and found.n == len(prompts)


def test_a_gate_may_be_kept_for_a_patch_and_not_for_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    given = parser().parse_args(["bias", "--data", "data", "--gates", "patches"])
    assert given.gates == Path("patches")
    with pytest.raises(SystemExit):
        parser().parse_args(["reference", "--data", "data", "--gates", "patches"])
    assert "--gates" in capsys.readouterr().err
