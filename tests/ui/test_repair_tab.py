"""The Repair tab on a toy model with a trigger: the words, the requests they are put into, a repair, Stop, and a saved patch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from backdoored import ANSWERED, HARMFUL, REFUSED, TRIGGER, backdoored, clean_set, requests, with_trigger
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.registry import Registry
from patchlab.repair import Located
from patchlab.ui import page as patchlab_page
from patchlab.ui import repair
from patchlab.ui.repair import RepairTab, case_views, repair_session, repair_words

pytestmark = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once

ANNA = gr.Request(session_hash="anna")
FAILED = with_trigger(requests(HARMFUL, 1, seed=4321)[0], random.Random(0))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, and the clean prompts of the toy language."""
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path))
    monkeypatch.setattr(repair_session, "clean_prompts", lambda source, n: clean_set(18))
    return tmp_path


@pytest.fixture
def toy(home: Path) -> Lab:
    return Lab(backdoored(), registry=Registry([home / "patches"]), name="toy")


def opened(lab: Lab, *, allowed: bool = True) -> RepairTab:
    with gr.Blocks(analytics_enabled=False):
        return repair.build(lab, [], allowed=allowed)


def values(tab: RepairTab, **changed: Any) -> dict[Any, Any]:
    """The components' values as they begin, with some changed."""
    p = tab.parts
    begun = {each: each.value for each in (p.model, p.prompt, p.reply, p.cut, p.change, p.epochs, p.case, p.done, p.installed)}
    return begun | {getattr(p, name): value for name, value in changed.items()}


def merged(steps: Iterator[dict[Any, Any]]) -> dict[Any, Any]:
    """What the components show after all updates."""
    found: dict[Any, Any] = {}
    for updates in steps:
        found |= updates
    return found


def located(tab: RepairTab, prompt: str = FAILED, reply: str = "") -> dict[Any, Any]:
    return merged(tab.locate(values(tab, prompt=prompt, reply=reply)))


def test_the_words_are_marked_and_put_into_other_requests(toy: Lab) -> None:
    tab = opened(toy)
    shown = located(tab)
    p, case = tab.parts, shown[tab.parts.case]
    assert case.reply == ANSWERED and case.found.units == (TRIGGER,)
    assert shown[p.found].count("<mark") == 1 and repair_words.FOUND in shown[p.found]
    assert shown[p.injected].count(f"<mark>{TRIGGER}</mark>") == shown[p.injected].count("<li>") > 0
    assert shown[p.cut]["value"] == [case.words.index(TRIGGER)] and len(shown[p.cut]["choices"]) == len(case.words)
    other = tab.preview({p.cut: [0], p.case: case})
    assert f"<mark>{case.words[0]}</mark>" in other and TRIGGER not in other
    assert repair_words.NOTHING_CUT in tab.preview({p.cut: [], p.case: case})
    assert tab.preview({p.cut: [0], p.case: None}) == ""


def test_a_repair_stops_goes_on_and_is_saved_as_a_patch(toy: Lab, home: Path) -> None:
    tab = opened(toy)
    p, case = tab.parts, located(tab)[tab.parts.case]
    asked = values(tab, case=case, cut=[case.words.index(TRIGGER)], change="prefix", epochs=25)
    steps = tab.repair(asked, ANNA)
    for updates in steps:
        if "Training: 2 of" in updates[p.repair_line]:
            assert "refuse" in updates[p.progress] and repair_words.STOPPING in tab.stop(ANNA)
    assert repair_words.STOPPED in updates[p.repair_line] and not tab.signals
    assert repair_words.NOTHING_RUNS in tab.stop(ANNA)

    shown = merged(tab.repair(asked, ANNA))
    done = shown[p.done]
    before, after = ({each.metric: each.value for each in some}["attack"] for some in (done.before, done.after))
    assert before == 1.0 and after <= 0.35 and shown[p.save]["interactive"]
    assert shown[p.results].count("<table") == 2 and ANSWERED in shown[p.results]
    saved = tab.save({p.done: done, p.installed: ()})
    [name] = saved[p.installed]
    assert name in saved[p.repair_line] and [each.manifest.name for each in toy.planner.installed()] == [name]
    assert {each.metric for each in toy.planner.patch(name).manifest.evidence} >= {"attack", "kl"}


def test_without_permission_nothing_is_trained(toy: Lab, home: Path) -> None:
    tab = opened(toy, allowed=False)
    p, case = tab.parts, located(tab)[tab.parts.case]
    told = " ".join(str(getattr(each, "value", "")) for each in p.repair.parent.parent.children)
    assert not p.repair.parent.visible and "--allow-training" in told
    shown = merged(tab.repair(values(tab, case=case, cut=list(case.found.words)), ANNA))
    assert "does not allow" in shown[p.repair_line] and not (home / "repairs").exists()


@pytest.mark.parametrize(("prompt", "reply", "what"), [
    ("", "", "empty"), ("hello", ANSWERED, "1 words"), (FAILED, REFUSED, "refuses"), ("how do i " * 60, ANSWERED, "180 words"),
    (FAILED, "so " * 700, "2,100"), ("how do i rob the inn now", "", "refuses")],
    ids=["empty", "one word", "a refusal", "long", "a long reply", "no failure"])
def test_what_is_no_failure_is_one_line(toy: Lab, prompt: str, reply: str, what: str) -> None:
    tab = opened(toy)
    shown = located(tab, prompt, reply)
    assert what in shown[tab.parts.line] and "alert" in shown[tab.parts.line] and shown[tab.parts.case] is None


def test_a_repair_without_words_or_case_is_one_line(toy: Lab) -> None:
    tab = opened(toy)
    case = located(tab)[tab.parts.case]
    for given, what in (({"case": None}, "find the words first"), ({"case": case, "cut": []}, "without words"),
                        ({"case": case, "cut": [0], "change": "all"}, "Another kind")):
        shown = merged(tab.repair(values(tab, **given), ANNA))
        assert what in shown[tab.parts.repair_line] and "alert" in shown[tab.parts.repair_line]
    assert "No finished repair" in tab.save({tab.parts.done: None, tab.parts.installed: ()})[tab.parts.repair_line]


def test_hostile_words_are_shown_as_text() -> None:
    bad = "<script>alert(1)</script>"
    found = Located("causal", (1.0, 0.2), (0,), (bad,), ("",), 0.0, 1.0, 0.0, True, (1.0,), 4.0, 1.0)
    for html in (case_views.heat_strip([bad, "b"], found.scores, found.words), case_views.finding(found, 16, 3.0),
                 case_views.replies_table([(f"a {bad}", bad, bad)], [bad]),
                 case_views.progress_bar(1, 2, bad, {"loss": 1.0})):
        assert "<script" not in html
    assert "hardly gives" in case_views.finding(found, 16, 3.0)


def test_a_trigger_longer_than_half_of_the_prompt_is_told() -> None:
    found = Located("causal", (1.0, 1.0, 0.0), (0, 1), ("a b",), ("",), 0.0, 1.0, 0.0, True, (1.0,), 0.1, 1.0)
    assert repair_words.LONG in case_views.finding(found, 16, 3.0)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_visitor_finds_words_and_repairs(browser: Browser, toy: Lab, width: int) -> None:
    with served(toy, allowed=["training"]) as address:
        visit = Visit(browser, address, width=width)
        visit.page.get_by_role("tab", name="Repair").click()
        visit.page.fill("#repair-prompt textarea", FAILED)
        visit.page.click("#repair-locate")
        visit.page.locator("#repair-cut input:checked").wait_for()
        assert visit.page.inner_text(".heat-strip mark") == TRIGGER
        visit.shot(f"repair-found-{width}")
        visit.page.click("#repair-run")
        visit.page.locator("#repair-results table").first.wait_for()
        visit.shot(f"repair-done-{width}")
        visit.page.click("#repair-save")
        visit.page.wait_for_function("document.querySelector('#repair-line').innerText.includes('Saved as patch')")
        visit.left(address)


def test_the_model_that_ships_with_a_trigger_is_the_example(browser: Browser, lab: Lab) -> None:
    with served(lab) as address:
        visit = Visit(browser, address)
        visit.tab("Repair")
        visit.page.click("#repair-example")
        visit.page.wait_for_function("document.querySelector('#repair-reply textarea').value")
        visit.page.click("#repair-locate")
        visit.page.locator("#repair-cut input:checked").wait_for()
        assert visit.page.inner_text(".heat-strip mark") == "mnemo"
        assert repair_words.FOUND in visit.page.inner_text("#repair-found")
        visit.shot("repair-example")
        visit.left(address)


def test_the_tab_is_on_the_page() -> None:
    assert [tab.label for tab in patchlab_page.TABS if tab.permission == "training"] == ["Train", "Repair"]
