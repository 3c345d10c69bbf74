"""What the page says of how patches get on: warnings on the chosen stack, the heat map, and silence where nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.patches import Manifest
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, label, save_interactions
from patchlab.registry import Registry
from patchlab.registry.interaction_files import FILE
from patchlab.scoring.table import Scorer
from patchlab.ui import compare, evaluate
from patchlab.ui.compare import patch_panel
from patchlab.ui.compare.patch_panel import PatchPanel
from patchlab.ui.evaluate import interaction_heatmap, matrix_panel

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once

OWN = {"bias": ("bias", "stereotype_rate"), "refusal": ("refusal", "refusal_rate"), "toxicity": ("toxicity", "toxic_rate")}


def matrix(three: list[Manifest]) -> Interactions:
    """Every pair of these patches in parallel mode, where refusal and toxicity fight."""
    def cells(*stack: Manifest) -> Iterator[Cell]:
        lost = {one.name for one in stack} == {"refusal", "toxicity"}
        for one in stack:
            loss = -12.0 if lost and one.name == "refusal" else -1.0
            than = Change((label(one),), loss, loss - 4, loss + 4, 2, "points") if len(stack) == 2 else None
            yield Cell(*OWN[one.name], label(one), 0.5, 0.4, 0.6, 2, "made", "d" * 64, (0.0, 1.0), than)

    stacks = [(one,) for one in three] + list(combinations(three, 2))
    base = three[0].base.fingerprint
    rows = tuple(InteractionRow(base, tuple(map(label, stack)), "parallel", {}, tuple(cells(*stack))) for stack in stacks)
    return Interactions(rows, {label(one): one.digest for one in three})


@pytest.fixture
def lab_of(lab: Lab, tmp_path: Path) -> Callable[..., Lab]:
    """Makes a lab whose registry has the shipped patches, changed by name, and no matrix."""
    def made(**changed: dict[str, Any]) -> Lab:
        for installed in lab.planner.installed():
            name = installed.manifest.name
            patch = lab.planner.patch(name)
            manifest = replace(patch.manifest, **changed.get(name, {}))
            replace(patch, manifest=manifest).save_pretrained(tmp_path / name)
        return Lab(lab.base, registry=Registry([tmp_path]))
    return made


def manifests(lab: Lab) -> list[Manifest]:
    return [installed.manifest for installed in lab.planner.installed()]


@pytest.fixture
def fighting(lab_of: Callable[..., Lab], tmp_path: Path) -> Lab:
    """The shipped patches with the matrix above beside them."""
    lab = lab_of()
    save_interactions(matrix(manifests(lab)), tmp_path / FILE)
    return lab


def panel_of(lab: Lab) -> PatchPanel:
    with gr.Blocks(analytics_enabled=False):
        return patch_panel.build(lab.planner)


def warned(panel: PatchPanel, **changed: Any) -> str:
    """What the panel says with these patches off, or with another mode."""
    off = {slot.on: False for name, slot in zip(panel.order.value, panel.slots, strict=True) if changed.get(name) == "off"}
    still = {slot.strength: 0 for name, slot in zip(panel.order.value, panel.slots, strict=True) if changed.get(name) == 0}
    mode = {panel.mode: changed["mode"]} if "mode" in changed else {}
    return panel.warned({each: each.value for each in panel.inputs} | off | still | mode)


def test_a_stack_that_is_known_to_fight_is_told_at_once(fighting: Lab, tmp_path: Path) -> None:
    panel = panel_of(fighting)
    words = warned(panel)
    assert words.count("<p ") == 1 and "“Refuse harm” and “Calm comments” are known to fight side by side" in words
    assert panel.warning.value == words, "all patches are on when the page opens"
    for quiet in ({"refusal": "off"}, {"toxicity": 0}, {"mode": "blend"}, {"mode": "sequential"}):
        assert warned(panel, **quiet) == ""
    assert warned(panel, bias="off") == words
    assert panel.warned(panel.begun | {panel.gates: True}) == "", "it was measured with all of them on at once"
    (tmp_path / FILE).unlink()
    assert warned(panel) == "", "what is known is looked up anew"


def test_conflicts_and_superseded_patches_are_told(lab_of: Callable[..., Lab]) -> None:
    panel = panel_of(lab_of(bias={"conflicts": ("toxicity",)}, refusal={"supersedes": ("bias",), "title": "<b>New"}))
    words = warned(panel)
    assert words.count("<p ") == 2 and "takes the place of “Even pronouns”" in words and "should not be on together" in words
    assert "<b>" not in words
    assert warned(panel, bias="off") == ""


def test_where_nothing_is_known_one_sentence_says_how_to_measure(lab: Lab) -> None:
    three = manifests(lab)
    known = matrix(three)
    words = matrix_panel.said(Interactions(), three, "parallel")
    assert "<code>patchlab patches matrix</code>" in words and "fight" not in words
    assert "<code>patchlab patches matrix --mode blend</code>" in matrix_panel.said(known, three, "blend")
    assert "known to fight" in matrix_panel.said(known, three, "parallel")
    stale = known.fresh([replace(three[0], files={"patch.json": "0" * 64}), *three[1:]])
    assert "2 are not measured yet" in matrix_panel.said(stale, three, "parallel")


def test_a_broken_matrix_is_told_and_the_page_still_opens(lab_of: Callable[..., Lab], scorers: list[Scorer], tmp_path: Path,
                                                          caplog: pytest.LogCaptureFixture) -> None:
    broken = lab_of()
    (tmp_path / FILE).write_text("{")
    with gr.Blocks(analytics_enabled=False):
        tab = compare.build(broken, scorers)
        evaluate.build(broken, scorers).join([tab], [])
    assert "cannot be used" in tab.controls.panel.warning.value and "cannot be used" in caplog.text


def test_the_heat_map_in_a_browser(browser: Browser, fighting: Lab) -> None:
    with served(fighting) as address:
        visit = Visit(browser, address, width=390, scheme="dark")
        shown = visit.page
        shown.wait_for_selector("#warning .warning:has-text('known to fight')")
        visit.tab("Evaluate")
        shown.wait_for_selector("#chart-matrix .main-svg >> visible=true")
        three = manifests(fighting)
        assert interaction_heatmap.summary(matrix(three), three, "parallel") in shown.inner_text("#matrix")
        shown.wait_for_function("document.querySelector('#chart-matrix .main-svg').getBoundingClientRect().right "
                                "<= document.querySelector('#matrix').getBoundingClientRect().right")
        texts = "[...document.querySelectorAll('#chart-matrix .heatmap-label')].map((each) => each.textContent).join(' ')"
        shown.wait_for_function(f"{texts}.includes('fights')")
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        visit.shot("evaluate-phone-dark")
        visit.tab("Compare")
        shown.locator(".patch-slot input[type=checkbox]").nth(1).uncheck()
        shown.wait_for_selector("#warning .warning", state="detached")
        shown.click("#mode label:has-text('Blended')")
        visit.tab("Evaluate")
        shown.wait_for_selector("#matrix code:has-text('--mode blend')")
        shown.wait_for_selector("#chart-matrix", state="hidden")
        visit.tab("Compare")
        shown.click("#mode label:has-text('Side by side')")
        visit.tab("Evaluate")
        shown.wait_for_selector("#chart-matrix .main-svg >> visible=true")
        visit.left(address)
