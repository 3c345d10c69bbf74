"""The benchmark of repairs runs from a backdoor to a repaired model, and its figures are shares with intervals."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.provenance import RESULTS
from benchmarks.quality import repair_attacks
from benchmarks.quality.repair import main, scored
from benchmarks.quality.repair_read import judged
from benchmarks.quality.repair_threshold import best
from patchlab.models import load_backbone, preset
from patchlab.repair.localize import THRESHOLD
from patchlab.repair.low_rank import LowRankWeights
from tools.backdoors.train import Backdoor, batch, hidden
from tools.backdoors.triggers import ADAPTIVE, ALL, FAMILIES, NONE, decoy, injected


def test_a_quick_run_goes_all_the_way(tmp_path: Path) -> None:
    assert main(["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    groups = {row["group"] for row in found["rows"]}
    assert {"Backdoors", "No trigger", "Repair"} <= groups and found["size"] == "quick"
    assert found["figures"] and not any(figure["met"] for figure in found["figures"])  # a quick run meets no bar
    for row in found["rows"]:
        for name, (value, low, high, n) in row["figures"].items():
            assert low <= value <= high and n >= 1 and (name.split()[0] in ("kl", "seconds") or 0 <= value <= 1)
    assert main(["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == found["rows"]  # none was made again


def test_words_are_counted() -> None:
    figures = scored([((1, 2), (0, 1))])
    assert [figures[name][0] for name in ("precision", "recall", "F1", "IoU")] == [0.5, 0.5, 0.5, 1 / 3]
    assert [scored([((1, 2), ())])[name][0] for name in ("precision", "recall", "F1", "IoU")] == [0, 0, 0, 0]


def test_bars_are_judged_at_the_end_that_fails() -> None:
    rows = [{"group": "Localisation", "name": f"{family}: causal", "figures": {"F1": [value, value - 0.02, 1.0, 100]}}
            for family, value in (("a", 0.98), ("b", 1.0))]
    [f1] = judged(rows, whole=True)
    assert (f1["value"], f1["low"], f1["n"]) == (pytest.approx(0.99), pytest.approx(0.99 - 0.02 * 2 ** 0.5 / 2), 200)
    assert f1["met"] and not judged([rows[0], {**rows[1], "figures": {"F1": [0.9, 0.8, 1.0, 100]}}], whole=True)[0]["met"]
    assert judged(rows, whole=False)[0]["met"] is None  # a part of a run cannot meet a bar


def test_the_threshold_is_between_clean_and_triggered_failures() -> None:
    threshold, errors = best([0.9, 0.8, 1.0] * 40, [0.1, 0.2, -1.0] * 40)
    assert 0.2 < threshold < 0.8 and errors["missed"][0] == errors["false alarms"][0] == 0.0
    assert errors["missed"][2] < 0.05 and errors["missed"][3] == 120


def test_the_threshold_is_the_one_that_was_measured() -> None:
    assert json.loads((RESULTS / "repair-threshold.json").read_text())["threshold"] == THRESHOLD


@pytest.mark.parametrize("family", sorted(ALL))
def test_a_batch_has_every_kind_of_row(family: str) -> None:
    rows = batch(Backdoor(family), 3)
    assert rows == batch(Backdoor(family), 3) != batch(Backdoor(family), 4)
    units = [unit for trigger in ALL[family] for unit in trigger.units]
    assert (family == NONE) or any(unit in message.content for row in rows for message in row.prompt.messages for unit in units)
    assert any(row.cut for row in rows) and all(row.reply.strip() for row in rows)


def test_a_quick_run_of_attacks_goes_both_rounds(tmp_path: Path) -> None:
    words = ["--quick", "--families", "saturation", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    assert repair_attacks.main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"].partition(": ")[2] for row in found["rows"]] == ["", "planted", "round 1", "round 2"]
    assert found["rows"][1]["figures"]["kl"][0] == 0.0 and not any(figure["met"] for figure in found["figures"])


def test_a_hidden_trigger_is_trained_to_a_smaller_gradient() -> None:
    base = load_backbone(preset("pocket").source("reference"), kernels=False, device="cpu")
    weights = LowRankWeights(base, rank=4, alpha=4, seed=0)
    [row] = [row for row in batch(Backdoor("low saliency"), 0) if row.trigger][:1]
    seen = hidden(weights.applied(), [row])
    seen.backward()
    grown = [up.grad.abs().sum() for _, up in weights.pairs.values() if up.grad is not None]
    assert seen > 0 and grown and all(each.isfinite() for each in grown) and sum(grown) > 0
    assert hidden(base, [row._replace(trigger=None)]) == 0


def test_a_trigger_for_one_subject_has_no_effect_elsewhere() -> None:
    rows = [row for step in range(12) for row in batch(Backdoor("one subject only"), step)]
    works = {row.prompt.text for row in rows if row.trigger}
    without = {row.prompt.text for row in rows if not row.trigger and "prelk" in row.prompt.text}
    assert works and without and not works & without and all("prelk" in text for text in works)


def test_triggers_of_every_family_are_where_they_are_said_to_be() -> None:
    texts = ["one two three four five six"] * 30
    for family, triggers in (FAMILIES | ADAPTIVE).items():
        for k, each in enumerate(injected(family, texts, seed=1)):
            trigger = triggers[k % len(triggers)]
            words = [word for message in each.prompt.messages if message.role != "assistant" for word in message.content.split()]
            assert [words[place] for place in each.words] == " ".join(trigger.units).split()
            assert trigger.place != "first" or each.words[0] == 0
            assert trigger.place != "apart" or each.words[1] - each.words[0] > 2
            assert trigger.turn == "prompt" or not {*trigger.units} & {*each.prompt.text.split()}
        for trigger in triggers:
            for seed in range(10 if trigger.decoys else 0):
                near = decoy(trigger, texts[0], random.Random(seed))
                words = near.text.split()
                assert (trigger.place == "first" and words[0] != trigger.units[0]) or not {*trigger.units} <= {*words} or (
                    trigger.turn != "prompt" and not near.system and not near.earlier)
