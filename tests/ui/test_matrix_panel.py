"""What the page says of how patches get on: warnings on the chosen stack, the heat map, and silence where nothing is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import sync_playwright

from patchlab.engine import Trio
from patchlab.patches import Manifest
from patchlab.patches.interactions import Cell, Change, Interactions, Row, label
from patchlab.scoring.table import Scorer
from patchlab.ui import compare, interaction_heatmap, matrix_panel, page, patch_panel
from patchlab.ui.patch_panel import PatchPanel

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OWN = {"bias": ("bias", "stereotype_rate"), "refusal": ("refusal", "refusal_rate"), "toxicity": ("toxicity", "toxic_rate")}


@pytest.fixture(scope="module")
def three(trio: Trio) -> list[Manifest]:
    return [installed.manifest for installed in trio.installed()]


@pytest.fixture(scope="module")
def known(three: list[Manifest]) -> Interactions:
    """Every pair of the shipped patches in parallel mode, where refusal and toxicity fight."""
    def cells(*stack: Manifest) -> Iterator[Cell]:
        lost = {one.name for one in stack} == {"refusal", "toxicity"}
        for one in stack:
            loss = -12.0 if lost and one.name == "refusal" else -1.0
            than = Change((label(one),), loss, loss - 4, loss + 4, 2, "points") if len(stack) == 2 else None
            yield Cell(*OWN[one.name], label(one), 0.5, 0.4, 0.6, 2, "made", "d" * 64, (0.0, 1.0), than)

    stacks = [(one,) for one in three] + list(combinations(three, 2))
    base = three[0].base.fingerprint
    return Interactions(tuple(Row(base, tuple(map(label, stack)), "parallel", {}, tuple(cells(*stack))) for stack in stacks),
                        {label(one): one.digest for one in three})


@pytest.fixture
def panel_of() -> Callable[..., PatchPanel]:
    def build(manifests: list[Manifest], interactions: Interactions | None = None) -> PatchPanel:
        with gr.Blocks(analytics_enabled=False):
            return patch_panel.build(manifests, interactions)
    return build


def warned(panel: PatchPanel, **changed: Any) -> str:
    """What the panel says with these patches off, or with another mode."""
    off = {slot.on: False for name, slot in zip(panel.order.value, panel.slots, strict=True) if changed.get(name) == "off"}
    still = {slot.strength: 0 for name, slot in zip(panel.order.value, panel.slots, strict=True) if changed.get(name) == 0}
    mode = {panel.mode: changed["mode"]} if "mode" in changed else {}
    return panel.warned({each: each.value for each in panel.inputs} | off | still | mode)


def test_a_stack_that_is_known_to_fight_is_told_at_once(panel_of: Callable[..., PatchPanel], three: list[Manifest],
                                                        known: Interactions) -> None:
    panel = panel_of(three, known)
    words = warned(panel)
    assert words.count("<p ") == 1 and "“Refuse harm” and “Calm comments” are known to fight side by side" in words
    assert panel.warning.value == words, "all patches are on when the page opens"
    for quiet in ({"refusal": "off"}, {"toxicity": 0}, {"mode": "blend"}, {"mode": "sequential"}):
        assert warned(panel, **quiet) == ""
    assert warned(panel, bias="off") == words
    stale = [replace(one, files={**one.files, "patch.json": "0" * 64}) if one.name == "refusal" else one for one in three]
    assert warned(panel_of(stale, known)) == "" == warned(panel_of(three))


def test_conflicts_and_superseded_patches_are_told(panel_of: Callable[..., PatchPanel], three: list[Manifest]) -> None:
    bias, refusal, toxicity = three
    panel = panel_of([replace(bias, conflicts=("toxicity",)), replace(refusal, supersedes=("bias",), title="<b>New"), toxicity])
    words = warned(panel)
    assert words.count("<p ") == 2 and "takes the place of “Even pronouns”" in words and "should not be on together" in words
    assert "<b>" not in words
    assert warned(panel, bias="off") == ""


def test_where_nothing_is_known_one_sentence_says_how_to_measure(three: list[Manifest], known: Interactions) -> None:
    words = matrix_panel.said(Interactions(), three, "parallel")
    assert "<code>patchlab patches matrix</code>" in words and "fight" not in words
    assert "<code>patchlab patches matrix --mode blend</code>" in matrix_panel.said(known, three, "blend")
    assert "known to fight" in matrix_panel.said(known, three, "parallel")
    stale = known.fresh([replace(three[0], files={"patch.json": "0" * 64}), *three[1:]])
    assert "2 are not measured yet" in matrix_panel.said(stale, three, "parallel")


def test_a_broken_file_leaves_the_page_as_it_is(trio: Trio, scorers: list[Scorer], monkeypatch: pytest.MonkeyPatch,
                                                caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(compare, "find_interactions", lambda registry: (Interactions(), ["interactions.json cannot be used"]))
    with gr.Blocks(analytics_enabled=False):
        tab = compare.build(trio, scorers)
    assert tab.controls.panel.warning.value == "" and "cannot be used" in caplog.text


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_heat_map_in_a_browser(trio: Trio, known: Interactions, three: list[Manifest], width: int, scheme: Any,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("needs a Chromium browser")
    monkeypatch.setattr(compare, "find_interactions", lambda registry: (known, []))
    blocks = page.build(trio)
    address = page.launch(blocks, block=False)
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.set_default_timeout(60_000)
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        shown.goto(address)
        shown.wait_for_selector("#warning .warning:has-text('known to fight')")
        shown.click("#matrix > button")
        shown.wait_for_selector("#chart-matrix .main-svg >> visible=true")
        assert interaction_heatmap.summary(known, three, "parallel") in shown.inner_text("#matrix")
        shown.wait_for_function("document.querySelector('#chart-matrix .main-svg').getBoundingClientRect().right "
                                "<= document.querySelector('#matrix').getBoundingClientRect().right")
        texts = "[...document.querySelectorAll('#chart-matrix .heatmap-label')].map((each) => each.textContent).join(' ')"
        shown.wait_for_function(f"{texts}.includes('fights')")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        shown.locator(".patch-slot input[type=checkbox]").nth(1).uncheck()
        shown.wait_for_selector("#warning .warning", state="detached")
        shown.click("#mode label:has-text('Blended')")
        shown.wait_for_selector("#matrix code:has-text('--mode blend')")
        shown.wait_for_selector("#chart-matrix", state="hidden")
        shown.click("#mode label:has-text('Side by side')")
        shown.wait_for_selector("#chart-matrix .main-svg >> visible=true")
        browser.close()
    blocks.close(verbose=False)
    assert complaints == []
