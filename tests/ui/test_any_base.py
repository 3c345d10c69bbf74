"""Any base, with or without a reference or patches, and patches that come and go while the page is open."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from made_models import byte_level, make_model, make_patch
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab, load
from patchlab.patches import Patch
from patchlab.registry import Registry
from patchlab.scoring.table import Scorer
from patchlab.ui import compare, copy
from patchlab.ui.compare import Compare

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once

ANNA = gr.Request(session_hash="anna")
PROMPT = "How can I save money?"


def made_base(family: str, folder: Path, *, seed: int = 0) -> Path:
    """A model folder as a user has one, of a tiny seeded model."""
    make_model(family, vocabulary=len(byte_level()), seed=seed, max_position_embeddings=512).save_pretrained(folder)
    byte_level().save_pretrained(folder)
    return folder


def opened(lab: Lab, scorers: list[Scorer]) -> Compare:
    with gr.Blocks(analytics_enabled=False):
        return compare.build(lab, scorers)


def ran(tab: Compare, **changed: Any) -> dict[Any, Any]:
    """The last view of a run."""
    given = {each: each.value for each in tab.controls.inputs} | {tab.results.rows: [], tab.results.ran: None}
    given |= {tab.controls.prompt: PROMPT, tab.controls.length: 8}
    *_, end = tab.run(given | {getattr(tab.controls, name): value for name, value in changed.items()}, ANNA)
    return end


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A Llama without a reference, and a registry with two patches of it."""
    found = load(base=made_base("llama", tmp_path / "base"), registry=Registry([tmp_path / "patches"]))
    for name in ("calm", "kind"):
        install(make_patch(found.base, name, length=3, strength=2.0), tmp_path)
    return found


def install(patch: Patch, place: Path) -> Path:
    return patch.save_pretrained(place / "patches" / patch.manifest.folder_name)


def test_a_base_without_reference_or_patches_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    with served(load(base=made_base("llama", tmp_path / "my-llama"))) as address:
        visit = Visit(browser, address)
        head = visit.page.locator("#about").text_content() or ""
        assert "The model is my-llama." in head and copy.NO_REFERENCE in head
        assert copy.NO_PATCHES in visit.page.inner_text(".side")
        assert visit.page.locator("#lane-reference, #mode >> visible=true").count() == 0
        visit.page.fill("#prompt textarea", PROMPT)
        visit.run()
        assert visit.text("base") == visit.text("patched") != ""
        assert copy.EQUALS_BASE in visit.page.inner_text("#lane-patched")
        assert len(visit.points("toxicity")) == len(visit.points("refusal")) == 2
        assert visit.page.locator("#history thead th").count() == 5
        widths = [visit.page.locator(f"#lane-{lane}").bounding_box()["width"] for lane in ("base", "patched")]  # type: ignore[index]
        assert widths[0] == widths[1] > 400
        visit.shot("two-lanes")
        visit.left(address)


@pytest.mark.parametrize("family", ["gemma3_text", "gpt2"])
def test_other_families_run_with_a_patch_of_their_own(family: str, scorers: list[Scorer], tmp_path: Path) -> None:
    lab = load(base=made_base(family, tmp_path / "base"), registry=Registry([tmp_path / "patches"]))
    assert not opened(lab, scorers).controls.panel.slots
    install(make_patch(lab.base, "calm", length=3), tmp_path)
    tab = opened(lab, scorers)
    assert [slot.on.label for slot in tab.controls.panel.slots] == ["calm"]
    end = ran(tab)
    assert copy.DONE in end[tab.results.status] and len(tab.results.lanes) == 2
    assert end[tab.results.rows][0].stack == "calm 1"
    assert [name for name, _ in end[tab.results.rows][0].lanes] == ["base", "patched"]


def test_a_given_reference_is_a_third_column_and_is_named(scorers: list[Scorer], tmp_path: Path) -> None:
    lab = load(base=made_base("llama", tmp_path / "mine"), reference=made_base("llama", tmp_path / "safer", seed=1))
    assert "The model is mine." in copy.models_note(lab) and "the reference safer" in copy.models_note(lab)
    tab = opened(lab, scorers)
    assert "<article" in ran(tab)[tab.results.lanes[2]]


def test_a_patch_that_is_gone_is_one_sentence_and_the_rest_goes_on(lab: Lab, scorers: list[Scorer], tmp_path: Path) -> None:
    tab = opened(lab, scorers)
    panel = tab.controls.panel
    shutil.rmtree(tmp_path / "patches" / "calm-1.0.0")
    end = ran(tab)
    assert 'role="alert"' in end[tab.results.status] and "Unknown patch &#x27;calm&#x27;" in end[tab.results.status]
    values = panel.begun
    assert "Unknown patch “calm”" in panel.warned(values) and panel.common(values) == values[panel.shared]
    given = {each: each.value for each in tab.controls.inputs} | {tab.results.rows: [], tab.controls.prompt: PROMPT}
    *_, end = tab.run(given | {panel.slots[0].on: False}, ANNA)
    assert copy.DONE in end[tab.results.status]


def test_a_patch_that_is_replaced_is_seen_at_the_next_run(lab: Lab, scorers: list[Scorer], tmp_path: Path) -> None:
    tab = opened(lab, scorers)
    before = ran(tab)
    newer = make_patch(lab.base, "calm", length=3, seed=9)
    install(replace(newer, manifest=replace(newer.manifest, version="1.1.0", conflicts=("kind",))), tmp_path)
    after = ran(tab)
    assert after[tab.results.lanes[1]] != before[tab.results.lanes[1]]
    assert after[tab.results.lanes[0]] == before[tab.results.lanes[0]]
    assert before[tab.results.warning] == "" and "“calm” and “kind” should not be on together" in after[tab.results.warning]
