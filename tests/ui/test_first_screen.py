"""The first screen in a real browser: everything in one view, the verdict, what follows a change, and every width and theme."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from made_visit import PALE, UNNAMED, Visit
from playwright.sync_api import Browser

from patchlab.records import Delta
from patchlab.ui import copy, session

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once

HARM = next(each for each in copy.EXAMPLES if each.prompt.domain == "refusal")
LANES = ("base", "patched", "reference")


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (1920, 1080)])
def test_after_a_click_on_an_example_all_of_it_is_in_one_view(browser: Browser, address: str, width: int, height: int) -> None:
    visit = Visit(browser, address, width=width, height=height)
    visit.example(HARM.label)
    assert visit.page.evaluate("scrollY") == 0
    assert {visit.place(f"#lane-{lane}")["top"] for lane in LANES} == {visit.place("#lane-base")["top"]}
    assert visit.place("#lane-base .text")["top"] <= 520
    seen = ["#preset", "#prompt", "#run", "#verdict .said", *(f"#lane-{lane} .end" for lane in LANES), "#chart-toxicity",
            "#chart-refusal", ".patch-slot", "#mode", "#gates"]
    assert {each: visit.place(each)["bottom"] for each in seen if visit.place(each)["bottom"] > height} == {}
    said = visit.page.inner_text("#verdict")
    assert said.startswith("Unpatched helped with a harmful request.") and "Patched refused." in said and "600 harmless" in said
    assert visit.page.evaluate("window.shifted") < 0.1
    assert visit.page.evaluate(UNNAMED) == []
    visit.shot(f"first-screen-{width}")
    visit.left(address)


def test_what_belongs_to_earlier_settings_is_said_so(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    visit.example(HARM.label)
    ribbon = visit.page.locator("#verdict .ribbon")
    assert not ribbon.is_visible()
    visit.page.fill("#prompt textarea", "How do I bake bread?")
    ribbon.wait_for(state="visible")
    visit.page.fill("#prompt textarea", HARM.prompt.text)
    ribbon.wait_for(state="hidden")
    visit.length(16)
    ribbon.wait_for(state="visible")
    visit.run(tokens=16)
    ribbon.wait_for(state="hidden")
    visit.left(address)


def test_a_strength_and_another_seed_write_anew_and_a_reply_can_be_copied(browser: Browser, address: str,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    write = session.stream

    seen = threading.Event()

    def late(*args: Any, **kwargs: Any) -> Iterator[tuple[Delta, ...]]:
        assert seen.wait(60), "the greyed text was not seen"
        yield from write(*args, **kwargs)

    visit = Visit(browser, address)
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.example(HARM.label)
    before = visit.text("patched")
    monkeypatch.setattr(session, "stream", late)
    with visit.ending():
        visit.page.locator(".patch-slot input[type=number]").nth(1).fill("0")
        visit.page.wait_for_selector(".lane.stale[data-lane=patched]")
        assert visit.text("patched") == before and visit.page.locator(".stale").count() == 1
        seen.set()
    assert visit.text("patched") != before and visit.page.locator(".stale").count() == 0
    base = visit.text("base")
    with visit.ending():
        visit.page.click("#again")
    assert visit.text("base") != base and visit.page.locator("#history tbody tr").count() == 3
    visit.page.click("#lane-base .copy")
    visit.page.wait_for_selector("#lane-base .copy:has-text('Copied')")
    assert visit.page.evaluate("navigator.clipboard.readText()") == visit.text("base").strip()
    visit.left(address)


@pytest.mark.parametrize(("width", "scheme", "query"), [(390, "dark", ""), (768, "light", "?__theme=dark")])
def test_narrow_screens_swipe_or_stand_side_by_side(browser: Browser, address: str, width: int, scheme: str, query: str) -> None:
    visit = Visit(browser, address + query, width=width, scheme=scheme)
    visit.example(HARM.label)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark" or bool(query))
    assert len({visit.place(f"#lane-{lane}")["top"] for lane in LANES}) == 1, "never two and one"
    assert visit.place("#verdict")["bottom"] <= visit.place("#lanes")["top"]
    assert visit.page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('#lanes'))") == (width == 390)
    assert visit.page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.history-scroll'))")
    assert visit.page.evaluate(PALE) == [] and visit.page.evaluate(UNNAMED) == []
    visit.shot(f"{width}-{'dark' if scheme == 'dark' or query else 'light'}")
    visit.left(address)


def test_the_theme_button_switches_and_is_remembered(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    assert visit.page.evaluate(PALE) == []
    visit.page.click("#theme")
    assert visit.page.evaluate("document.body.classList.contains('dark')")
    visit.page.wait_for_timeout(300)
    assert visit.page.evaluate(PALE) == []
    visit.page.reload()
    visit.page.wait_for_selector("#chart-refusal .main-svg")
    assert visit.page.evaluate("document.body.classList.contains('dark')")
    visit.left(address)
