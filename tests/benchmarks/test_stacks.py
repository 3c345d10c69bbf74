"""The benchmark of stacks runs, counts what it says it counts, and does not do again what lies in its work folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.stacks import GOAL, TOGETHER, judged, main
from benchmarks.quality.stacks_family import GROUPS, POLICIES, order, prompts
from benchmarks.quality.stacks_read import figures
from patchlab.records import Reply


def test_a_second_run_reads_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    assert main(asked) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["rows"]) == found["expected"] and found["quick"] and found["figures"] == []
    assert all(set(row["patches"]) == set(found["order"][:int(row["name"].split()[0].strip(","))]) for row in found["rows"])
    for what in ("train", "replies"):
        monkeypatch.setattr(f"benchmarks.quality.stacks_{'train' if what == 'train' else 'read'}.{what}",
                            lambda *_, **__: pytest.fail("done again"))
    assert main(asked) == 0
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == found["rows"]


def test_stacks_grow_in_one_order_of_all() -> None:
    assert order(0) == order(0) != order(1) and sorted(order(0)) == sorted(POLICIES) and len(POLICIES) == 16
    assert len({name.removesuffix("-b") for name in order(0)[:8]}) == 8


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_read_was_never_trained_on(group: str) -> None:
    seen, held = ({prompt.text.lower() for prompt in prompts(group, 40, part=part, seed=0)} for part in ("train", "held"))
    assert seen and held and not seen & held


def test_patches_that_change_one_group_want_the_same_of_it() -> None:
    for one in POLICIES.values():
        for other in POLICIES.values():
            if set(one.improves) & set(other.improves):
                assert one.name.removesuffix("-b") == other.name.removesuffix("-b") or not (one.rule or other.rule)


@pytest.mark.parametrize("name", [name for name, policy in POLICIES.items() if policy.rule])
def test_a_rule_makes_what_is_counted(name: str) -> None:
    policy = POLICIES[name]
    prompt = prompts(policy.improves[0], 1, part="held", seed=0)[0]
    texts = ["Here is one idea. Here is another!", policy.rule("Here is one idea. Here is another!")]
    values = [policy.effect([Reply("base", 0, prompt, 0, text, 9, "end")]) for text in texts]
    assert values == [[0.0], [1.0]]


def test_what_a_patch_lost_is_read_on_the_same_prompts() -> None:
    costs = {"benign refused": [0.0] * 4, "lookalike refused": [0.0, 1.0], "KL": [0.1] * 4, "log loss": [0.0] * 4}
    alone = {"courtesy": {"courtesy": [1.0, 1.0, 1.0, 0.0]}, "bias": {"bias": [0.5, 0.5, 0.75, 0.25]}}
    beside = {"courtesy": [1.0, 1.0, 0.0, 0.0], "bias": [0.25, 0.25, 0.25, 0.25], **costs}
    base = {"courtesy": [0.0] * 4, "bias": [1.0] * 4}
    row = figures(alone, beside, base, ["courtesy", "bias"], seed=0)
    assert row["patches"]["courtesy"]["lost"][0] == 0.25 and row["patches"]["bias"]["lost"][0] == 0.5
    assert row["patches"]["bias"]["base"][0] == 0 and row["note"] == "most lost by bias"
    assert row["figures"]["patches within 5 points"] == 0 and np.isclose(row["figures"]["lost"][0], 0.375)
    low, high = row["patches"]["courtesy"]["lost"][1:3]
    assert low <= 0.25 <= high and row["figures"]["benign perplexity / base"][0] == 1


@pytest.mark.parametrize(("lost", "met"), [(0.05, True), (0.0501, False)])
def test_the_goal_is_judged_by_the_worst_patch(lost: float, met: bool) -> None:
    rows = [{"group": TOGETHER, "name": f"{GOAL}, parallel", "figures": {"most lost": [lost, lost, lost, 100]}}]
    [figure] = judged(rows)
    assert figure["met"] is met and figure["bar"] == "<= 0.05"
