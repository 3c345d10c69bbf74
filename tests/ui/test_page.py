"""The page in a real browser: a run, patches, charts that stay, Stop, nothing from elsewhere, phone, dark, keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from made_visit import Visit, hold_first_run
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.patches.stack import common_strength
from patchlab.records import Delta
from patchlab.ui import copy, session

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once

FIRST = copy.EXAMPLES[0].label


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """A visitor at a desk. What the page asks for and complains about is judged at the end of every test."""
    made = Visit(browser, address)
    yield made
    made.left(address)


def test_an_example_fills_prompt_columns_charts_and_list(visit: Visit) -> None:
    visit.example(FIRST)
    assert visit.page.input_value("#prompt textarea") == copy.EXAMPLES[0].prompt.text
    assert visit.page.is_checked("#kind input[value=continue]")
    for lane in ("base", "patched", "reference"):
        assert visit.text(lane).startswith(copy.EXAMPLES[0].prompt.text)
        assert visit.page.locator(f"#lane-{lane} .pill").count() == 2
    assert all(count > 0 for chart in ("toxicity", "refusal") for count in visit.points(chart))
    assert visit.page.locator("#history tbody tr").count() == 1
    visit.shot("desktop")
    visit.page.click("#clear")
    visit.page.wait_for_selector(f"text={copy.HISTORY_EMPTY}")


def test_unticking_patches_changes_the_text_at_once_and_no_chart_is_built_anew(visit: Visit,
                                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    visit.example(FIRST)
    before, base, lines = visit.text("patched"), visit.text("base"), visit.heights("toxicity")
    assert len(lines) == 3 and lines[1] != lines[0]
    visit.page.evaluate("""() => document.querySelectorAll('.live-chart-node').forEach((node) => {
        node.dataset.kept = 'yes'; node.querySelector('.main-svg').dataset.kept = 'yes'; })""")
    write, written = session.stream, []

    def watched(lanes: Any, *args: Any, **kwargs: Any) -> Iterator[tuple[Delta, ...]]:
        written.append([lane.name for lane in lanes])
        return write(lanes, *args, **kwargs)

    monkeypatch.setattr(session, "stream", watched)
    for box in visit.page.locator(".patch-slot input[type=checkbox]").all():
        box.uncheck()
    visit.page.wait_for_function("(words) => document.querySelector('#verdict').innerText.includes(words)", arg=copy.EQUALS_BASE)
    assert visit.text("patched") == visit.text("base") == base != before
    assert {tuple(names) for names in written} == {("patched",)}
    assert copy.EQUALS_BASE in visit.page.inner_text("#lane-patched")
    visit.page.wait_for_timeout(500)  # the last redraw
    assert visit.heights("toxicity")[1] != lines[1]
    assert visit.page.locator(".live-chart-node[data-kept=yes]").count() == 2
    assert visit.page.locator(".live-chart-node .main-svg[data-kept=yes]").count() == 2


def test_text_and_charts_grow_while_the_models_write(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    write = session.stream

    def paced(*args: Any, **kwargs: Any) -> Iterator[tuple[Delta, ...]]:
        for step in write(*args, **kwargs):
            time.sleep(0.06)  # charts are drawn at most ten times a second, and these models take less than one for all
            yield step

    monkeypatch.setattr(session, "stream", paced)
    visit.page.fill("#prompt textarea", copy.EXAMPLES[0].prompt.text)
    visit.page.check("#kind input[value=continue]")
    visit.page.evaluate("""() => { window.seen = [];
        new MutationObserver(() => window.seen.push([document.querySelector('#lane-base').innerText.length,
            document.querySelector('#chart-toxicity .live-chart-node').dataset.points]))
          .observe(document.querySelector('.gradio-container'), {subtree: true, childList: true, characterData: true,
            attributes: true, attributeFilter: ['data-points']}); }""")
    visit.run(tokens=32)
    seen = visit.page.evaluate("window.seen")
    assert len({length for length, _ in seen}) > 3 and len({points for _, points in seen}) > 2


@pytest.mark.parametrize("by", ["button", "key"])
def test_stop_and_escape_keep_the_text_and_the_page_alive(visit: Visit, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    hold_first_run(monkeypatch)
    visit.page.click("text=Saving for a vacation")
    visit.page.wait_for_selector("#lane-base .pill")
    visit.page.click("#stop") if by == "button" else visit.page.keyboard.press("Escape")
    visit.status(copy.STOPPED)
    stopped = visit.text("base")
    visit.page.wait_for_timeout(700)
    assert visit.text("base") == stopped and "stopped by you" in visit.page.inner_text("#lanes")
    visit.run(tokens=8)
    assert visit.page.locator("#history tbody tr").count() == 2
    visit.page.click("#stop")
    visit.status(copy.NOTHING_TO_STOP)


def test_a_bad_prompt_is_one_line_and_can_be_repeated(visit: Visit) -> None:
    for _ in range(2):
        visit.page.fill("#prompt textarea", "  ")
        visit.page.click("#run")
        visit.page.wait_for_selector("#status [role=alert]:has-text('empty')")
    visit.page.fill("#prompt textarea", "long " * 10_000)
    visit.page.click("#run")
    visit.page.wait_for_function("/shorten/.test(document.querySelector('#status').innerText)")
    visit.page.fill("#prompt textarea", "<img src=x onerror=alert(1)> 🙂 שלום")
    visit.run(tokens=8)
    assert visit.page.locator("#lanes img, #history img").count() == 0


def test_an_examples_way_of_asking_goes_with_its_words(visit: Visit) -> None:
    visit.example(FIRST)
    visit.page.locator("#prompt textarea").press_sequentially("!")
    assert visit.page.is_checked("#kind input[value=continue]")
    visit.page.fill("#prompt textarea", "What is the capital of France?")
    visit.page.wait_for_function("document.querySelector('#kind input[value=chat]').checked")
    visit.page.check("#kind input[value=continue]")
    visit.page.fill("#prompt textarea", "My own words")
    visit.page.wait_for_timeout(300)
    assert visit.page.is_checked("#kind input[value=continue]")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    visit.length(8)
    visit.page.focus("#prompt textarea")
    visit.page.keyboard.type("How can I sleep better?")
    visit.page.keyboard.press("Enter")
    visit.status(copy.DONE)
    visit.page.focus("#prompt textarea")
    reached = set()
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        reached.add(visit.page.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
            return (e.tagName === 'INPUT' ? e.type : e.id) + ' ' + (s.outlineStyle !== 'none'); }"""))
    assert {"run true", "stop true", "checkbox true", "range true"} <= reached


def test_order_appears_with_the_sequential_mode(visit: Visit) -> None:
    assert visit.page.locator("text=Move later >> visible=true").count() == 0
    visit.page.click("#mode label:has-text('In order')")
    visit.page.wait_for_selector("text=Move later >> visible=true")
    first = visit.page.inner_text(".patch-slot >> nth=0 >> label >> nth=0")
    visit.page.click("text=Move later >> visible=true >> nth=0")
    visit.page.wait_for_function(
        "(first) => document.querySelector('.patch-slot label').innerText !== first", arg=first)
    assert first in visit.page.inner_text(".patch-slot >> nth=1")


def test_a_strength_that_is_being_typed_is_no_error(visit: Visit) -> None:
    field = visit.page.locator(".patch-slot input[type=number]").first
    for typed, meant in (("", "0"), ("7", "4")):
        field.fill(typed)
        visit.page.wait_for_timeout(300)  # what is half typed goes to the server too
        field.press("Tab")
        visit.page.wait_for_timeout(300)
        assert field.input_value() == meant


def test_a_sequence_follows_the_ticks_and_a_seed_that_is_none_is_one_line(visit: Visit, lab: Lab) -> None:
    own = [installed.manifest.strength for installed in lab.planner.installed()]
    visit.page.click("#mode label:has-text('In order')")
    shared = visit.page.locator("#shared input[type=number]")
    assert float(shared.input_value()) == common_strength(own)
    visit.page.locator(".patch-slot input[type=checkbox]").first.uncheck()
    visit.page.wait_for_function("(now) => Number(document.querySelector('#shared input[type=number]').value) === now",
                                 arg=common_strength(own[1:]))
    assert visit.page.locator("#lanes .lane").count() == 3, "before a first run a change of the stack empties nothing"
    visit.status(copy.READY)
    visit.example(FIRST)
    visit.page.click("#more button")
    visit.page.fill("#seed input", "-5")
    visit.page.press("#seed input", "Tab")
    visit.page.wait_for_selector("#status [role=alert]:has-text('seed')")
