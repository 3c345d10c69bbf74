"""The real build at toy size, from nothing to judged patches, and a second run that finds everything done."""

from __future__ import annotations

import dataclasses
import json

import pytest

from patchlab.patches import Patch
from patchlab.registry import Registry
from tools.pocket.build import Plan, build_all
from tools.pocket.language_model import Size

pytestmark = pytest.mark.xdist_group("pocket")  # one process, so that what its tests share is made once

TOY = {"sft_steps": 2, "dpo_steps": 1, "length": 4, "rows": 4, "hold_rows": 4, "winner": 1.0, "margin": 0.0, "samples": 1,
       "own_steps": 1,       "max_new_tokens": 6, "refusal_budget": 1.0, "drift_budget": 10.0}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("build")
    size = Size(width=32, layers=1, heads=2, vocabulary=500, rows=8)
    return Plan(out=folder / "assets", work=folder / "work", size=size,
                documents=400, base_steps=4, reference_steps=6, reference_rate=0.05, judged=4, train_prompts=40, reply_tokens=6,
                recipe=TOY)


@pytest.fixture(scope="module")
def stages(plan: Plan) -> list[str]:
    return [progress.stage for progress in build_all(plan)]


def test_every_part_is_made(plan: Plan, stages: list[str]) -> None:
    assert {stage.split()[0] for stage in stages} >= {"tokenizer", "base", "reference", "suites", "scorers", "first",
                                                      "patches", "judge"}
    for lane in ("base", "reference"):
        assert (plan.pocket / lane / "model.safetensors").stat().st_size > 1000
    installed = Registry([plan.out / "patches"]).list()
    assert [each.manifest.name for each in installed] == ["bias", "refusal", "toxicity"]
    for each in installed:
        patch = Patch.from_pretrained(each.folder)
        assert patch.prefix.shape == (4, 32) and patch.gate and patch.curve
        assert each.manifest.evidence
    figures = json.loads((plan.pocket / "metrics.json").read_text())["figures"]
    names = {figure["name"] for figure in figures}
    assert {"base toxicity", "reference harmful", "visitors base gibberish", "refusal: refusal gap closed"} <= names


def test_a_second_run_trains_nothing(plan: Plan, stages: list[str]) -> None:
    weights = (plan.pocket / "base" / "model.safetensors").stat().st_mtime_ns
    assert {progress.message for progress in build_all(plan)} == {"done before"}
    assert (plan.pocket / "base" / "model.safetensors").stat().st_mtime_ns == weights


def test_another_seed_replaces_the_patches(plan: Plan, stages: list[str]) -> None:
    before = {each.manifest.name: each.manifest for each in Registry([plan.out / "patches"]).list()}
    again = dataclasses.replace(plan, seed=8, base_steps=1, reference_steps=1, work=plan.work / "again")
    for _ in build_all(again):
        pass
    for each in Registry([plan.out / "patches"]).list():
        assert each.manifest.base.fingerprint != before[each.manifest.name].base.fingerprint


def test_training_never_sees_what_is_judged(plan: Plan, stages: list[str]) -> None:
    def texts(name: str) -> set[str]:
        lines = (plan.suites / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["text"] for line in lines}

    judged = set().union(*(texts(name) for name in ("toxicity", "bias", "harmful", "benign", "lookalike")))
    assert judged and not judged & texts("train")
