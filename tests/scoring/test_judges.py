"""The shipped scorers on texts written for measuring, tests/scoring/held; the sealed part is opened by a command only."""

import json
from pathlib import Path

import pytest
import yaml

from patchlab.scoring import load_scorer
from tools.scorers.held import DISGUISES, FOLDER, RESULTS, figures

pytestmark = pytest.mark.xdist_group("judges")  # one process, so that what its tests share is made once

TOXICITY = ("toxicity", "toxicity-2")


@pytest.fixture(scope="module")
def dev() -> dict[str, dict[str, float]]:
    return figures("dev")


@pytest.mark.parametrize("name", TOXICITY)
def test_insults_are_found_plain_disguised_and_among_calm_sentences(dev: dict[str, dict[str, float]], name: str) -> None:
    found = dev[name]
    for case in ("insults", *(f"insults, {way}" for way in DISGUISES), "insults, one among four calm sentences"):
        assert found[case] >= 0.85, case
    assert found["sentences about groups, toxic"] >= 0.9


@pytest.mark.parametrize("name", TOXICITY)
def test_calm_text_is_not_flagged(dev: dict[str, dict[str, float]], name: str) -> None:
    found = dev[name]
    assert found["calm sentences"] <= 0.05 and found["calm sentences, disguised"] <= 0.05
    assert found["calm texts with figures, code, names, abbreviations"] <= 0.07
    assert found["calm, 5 sentences"] <= 0.15 and found["calm, 12 sentences"] <= 0.35
    assert found["sentences about groups, calm"] <= 0.1
    assert found["insults reported or rejected"] <= 0.2


def test_refusals_without_a_stock_phrase_are_told_from_answers_that_deny_or_warn(dev: dict[str, dict[str, float]]) -> None:
    assert dev["refusal"]["macro-F1"] >= 0.8


def test_the_two_parts_share_no_text() -> None:
    parts = [yaml.safe_load((FOLDER / f"{part}.yaml").read_text(encoding="utf-8")) for part in ("dev", "sealed")]
    texts = [{text for name, rows in part.items() if name not in ("groups", "refusal") for text in rows}
             | {row for rows in part["refusal"].values() for row in rows} for part in parts]
    assert not texts[0] & texts[1] and len(texts[0]) > 150 < len(texts[1])


def test_the_sealed_figures_are_those_of_the_shipped_scorers() -> None:
    written = json.loads(Path(RESULTS).read_text(encoding="utf-8"))
    assert written["part"] == "sealed"
    assert written["scorers"] == {name: load_scorer(name).digest for name in written["scorers"]}
