"""The Evaluate tab: evidence, published results with missed goals, the way there from Compare, and both charts in a browser."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from made_visit import Visit
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.records import Measure
from patchlab.ui import evidence_table
from patchlab.ui.evaluate import evaluate_words
from patchlab.ui.evaluate.evaluate_tab import evidence_cards
from patchlab.ui.evaluate.published import published

pytestmark = pytest.mark.xdist_group("tabs")

FIGURES = [{"name": "refusal <b>: gap closed", "value": 0.97, "low": 0.9, "high": 1.0, "n": 441, "bar": ">= 0.80", "met": True},
           {"name": "refuses harmless", "value": 0.05, "low": 0.01, "high": 0.09, "n": 142, "bar": "<= 0.01", "met": False},
           {"name": "share of he", "value": math.nan, "low": math.nan, "high": math.nan, "n": 0, "bar": "", "met": None}]


def results(folder: Path, **changed: object) -> Path:
    content = {"made_with": {"command": "python -m made", "date": "2026-11-29"}, "figures": FIGURES} | changed
    (folder / "public-refusal.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_published_results_show_missed_goals_and_escape_names(tmp_path: Path) -> None:
    page = published("smollm2", results(tmp_path))
    assert "<b>" not in page and "<code>python -m made</code>" in page
    assert page.count("pill good") == page.count("pill bad") == 1 and evaluate_words.NOTHING in page and "nan" not in page
    assert page.index("<details>") < page.index("share of he"), "figures without a goal are folded in"


def test_without_results_or_with_broken_ones_there_is_no_section(tmp_path: Path) -> None:
    assert published("pocket", tmp_path) == published("smollm2", tmp_path) == published("my-own", tmp_path) == ""
    assert published("smollm2", results(tmp_path, figures=[{"name": "x"}])) == ""
    (tmp_path / "public-refusal.json").write_text("{", encoding="utf-8")
    assert published("smollm2", tmp_path) == ""
    whole = results(tmp_path) / "public-refusal.json"
    whole.rename(tmp_path / "public-bias.json")
    whole.write_text("{", encoding="utf-8")
    assert published("smollm2", tmp_path).count("<table") == 2, "a broken part hides no other"


def test_evidence_names_what_a_reader_asks_first_and_folds_the_rest(lab: Lab) -> None:
    page = evidence_cards(lab)
    assert page.count("<article") == 3 and page.index("Harmful requests refused") < page.index("All 6 measurements")
    assert evidence_table.evidence([]) == f'<p class="note">{evidence_table.NONE}</p>'
    odd = Measure("my <suite>", "patched", "own_rate", 0.25, 0.2, 0.3, 1200, "<i>")
    said = evidence_table.evidence([odd])
    assert "My &lt;suite&gt;: own rate" in said and "1,200" in said and "<i>" not in said.replace("<i style", "")
    drift = Measure("drift", "patched", "kl_to_base", 0.005, 0.004, 0.006, 300, "base")
    assert "measure-bar" not in evidence_table.evidence([drift]), "nats are no share"


@pytest.mark.parametrize(("name", "width"), [("evaluate-desktop", 1280), ("evaluate-phone", 390)])
def test_the_way_from_compare_and_both_charts(browser: Browser, address: str, name: str, width: int) -> None:
    visit = Visit(browser, address, width=width)
    page = visit.page
    assert page.locator("#chart-curve, #chart-matrix").locator("visible=true").count() == 0, "Compare has neither"
    page.click("#to-evaluate")
    page.wait_for_selector("#chart-curve .main-svg >> visible=true")
    page.wait_for_selector("#chart-matrix .main-svg >> visible=true")
    page.wait_for_selector("#evaluate-evidence .patch-card >> nth=2")
    page.click("#curve-patch label:has-text('Refuse harm')")
    page.wait_for_selector("#curve .legend:has-text('Harmful requests refused')")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_timeout(400)
    visit.shot(name)
    visit.left(address)
