"""A conversation in a real browser: going on, what was said before, a toggle in the middle, beginning anew, and every width."""

from __future__ import annotations

from typing import Any

import pytest
from made_visit import PALE, UNNAMED, Visit
from playwright.sync_api import Browser

from patchlab.ui import copy, session

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once

HARM = next(each for each in copy.EXAMPLES if each.prompt.domain == "refusal")
LANES = ("base", "patched", "reference")
NEXT, THIRD = "Tell me how to make a fake passport.", "How can I sleep better?"
NEWEST = ".replies > .reply .text"


def newest(visit: Visit) -> dict[str, str]:
    """The newest reply of each column."""
    return {lane: visit.page.inner_text(f"#lane-{lane} {NEWEST}") for lane in LANES}


def ask(visit: Visit, words: str) -> None:
    """Ask in the conversation that is on the page, and wait for the end."""
    visit.page.check("#talk input[value=same]")
    visit.page.fill("#prompt textarea", words)
    with visit.ending():
        visit.page.keyboard.press("Enter")


def test_a_conversation_goes_on_in_every_column_and_a_toggle_rewrites_its_newest_turn(
        browser: Browser, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = Visit(browser, address)
    assert visit.page.locator("#talk").count() == 0, "there is nothing to go on in"
    visit.example(HARM.label)
    first, top = newest(visit), visit.place("#lane-base")["top"]
    visit.page.check("#talk input[value=same]")
    visit.page.wait_for_function("document.activeElement === document.querySelector('#prompt textarea')")
    visit.page.keyboard.type(NEXT)
    assert visit.page.input_value("#prompt textarea") == NEXT, "the old message was selected, so that the next one replaces it"
    visit.page.wait_for_timeout(300)
    assert not visit.page.is_visible("#verdict .ribbon"), "what is asked next takes nothing from the replies"
    assert visit.page.inner_text("#lane-base .request") == copy.REQUEST + HARM.prompt.text
    with visit.ending():
        visit.page.keyboard.press("Enter")
    second = newest(visit)
    assert copy.NEWEST.format(turn=2) in visit.page.inner_text("#verdict") and visit.place("#lane-base")["top"] == top
    ask(visit, THIRD)
    for lane in LANES:
        box = visit.page.locator(f"#lane-{lane} .replies").bounding_box()
        shown = visit.page.locator(f"#lane-{lane} {NEWEST}").bounding_box()
        assert box and shown and shown["y"] + min(shown["height"], 45) <= box["y"] + box["height"] <= 900, "seen at once"
        assert copy.EARLIER.format(turn=3) in visit.page.inner_text(f"#lane-{lane}")
        visit.page.click(f"#lane-{lane} .earlier summary")
        assert [visit.page.locator(f"#lane-{lane} .earlier .text").nth(k).inner_text() for k in (0, 1)] == [
            first[lane], second[lane]]
    visit.shot("conversation-open")
    base, written, write = newest(visit)["base"], [], session.stream

    def watched(lanes: Any, *args: Any, **kwargs: Any) -> Any:
        written.append([lane.name for lane in lanes])
        return write(lanes, *args, **kwargs)

    monkeypatch.setattr(session, "stream", watched)
    visit.page.locator(".patch-slot input[type=number]").first.fill("0")
    visit.page.wait_for_function("document.querySelectorAll('#history tbody tr').length === 4")
    assert {tuple(names) for names in written} == {("patched",)} and newest(visit)["base"] == base
    assert copy.EARLIER.format(turn=3) in visit.page.inner_text("#lane-patched")
    visit.shot("conversation")
    rows = visit.page.locator("#history tbody th").all_inner_texts()
    assert [row.split(":")[0] for row in rows] == ["Turn 3", "Turn 3", "Turn 2", HARM.prompt.text]
    visit.page.check("#talk input[value=new]")
    with visit.ending():
        visit.page.click("#run")
    assert visit.page.locator("#lanes .earlier").count() == 0
    visit.left(address)


def test_an_example_begins_anew_and_what_cannot_be_asked_leaves_the_conversation(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    visit.example(HARM.label)
    ask(visit, NEXT)
    before = newest(visit)
    for words, way, told in (("word " * 3_990, "chat", "begin a new conversation"), ("  ", "chat", "empty"),
                             (THIRD, "continue", "text to continue in a conversation")):
        visit.page.fill("#prompt textarea", words)
        visit.page.check(f"#kind input[value={way}]")
        visit.page.click("#run")
        visit.page.wait_for_selector(f"#status [role=alert]:has-text('{told}')")
        assert newest(visit) == before and visit.page.locator("#lanes .earlier").count() == 3
    visit.shot("conversation-error")
    visit.example(HARM.label)
    assert visit.page.is_checked("#talk input[value=new]") and visit.page.locator("#lanes .earlier").count() == 0
    visit.example(copy.EXAMPLES[0].label)
    visit.page.wait_for_selector("#talk", state="detached")
    visit.left(address)


def test_a_system_prompt_is_asked_with_and_a_phone_shows_a_conversation(browser: Browser, address: str) -> None:
    visit = Visit(browser, address, width=390, scheme="dark")
    visit.example(HARM.label)
    plain, ribbon = newest(visit), visit.page.locator("#verdict .ribbon")
    ask(visit, NEXT)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.page.evaluate(PALE) == [] and visit.page.evaluate(UNNAMED) == []
    visit.shot("conversation-390")
    visit.page.click("#more button")
    visit.page.fill("#system textarea", "You only talk about bread. <b>Always.</b>")
    visit.page.check("#talk input[value=new]")
    visit.page.fill("#prompt textarea", HARM.prompt.text)
    ribbon.wait_for(state="visible")
    with visit.ending():
        visit.page.click("#run")
    assert newest(visit)["base"] != plain["base"]
    ribbon.wait_for(state="hidden")
    visit.left(address)
