"""A link from one browser opened in another: the same page, what it may run, and what somebody made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from made_models import make_backbone
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.registry import Registry
from patchlab.ui import copy
from patchlab.ui.offered import Offered

pytestmark = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once

PROMPT = 'A "quoted" <b>prompt</b>, with 50 % of 日本語 & more'
# every control of the Compare tab as a visitor sees it
SET = """() => [...document.querySelectorAll('#prompt textarea, .screen input')].map((each) =>
  [each.type, ['checkbox', 'radio'].includes(each.type) ? each.checked : each.value])
  .concat([...document.querySelectorAll('.patch-slot label')].map((each) => each.innerText.split('\\n')[0]),
  [document.querySelector('[role=tab][aria-selected=true]').innerText, document.querySelector('#preset input').value])"""


def shared(visit: Visit) -> str:
    """The link that the Share button makes; it is in the clipboard too."""
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.click("#share")
    visit.page.wait_for_selector("#share-box:has-text('copied')")
    link = visit.page.input_value("#share-box input")
    assert visit.page.evaluate("navigator.clipboard.readText()") == link
    return link


def settings(visit: Visit) -> Any:
    """What is set on a page, once nothing changes any more."""
    visit.page.wait_for_timeout(600)
    if not visit.page.locator("#seed input").is_visible():
        visit.page.click("#more button")
        visit.page.wait_for_selector("#seed input")
    return visit.page.evaluate(SET)


def test_a_link_restores_everything_in_another_browser_and_runs(browser: Browser, address: str) -> None:
    one = Visit(browser, address)
    one.length(24)
    one.page.check("#mode input[value=sequential]")
    one.page.locator(".patch-slot button:has-text('Move later') >> visible=true").first.click()
    one.page.locator(".patch-slot input[type=checkbox]").nth(2).uncheck()
    one.page.wait_for_timeout(500)
    one.page.fill("#shared input[type=number]", "0.6")
    one.page.press("#shared input[type=number]", "Tab")
    one.page.fill("#seed input", "123456789012345678")
    one.page.check("#kind input[value=continue]")
    one.page.fill("#prompt textarea", PROMPT)
    link, before = shared(one), settings(one)
    other = Visit(browser, link)
    other.page.wait_for_function("(text) => document.querySelector('#prompt textarea').value === text", arg=PROMPT)
    assert settings(other) == before and shared(other) == link
    other.status(copy.READY)
    runs = []
    for visit, press in ((one, True), (other, True), (Visit(browser, link + "&run=1"), False)):
        if press:
            with visit.ending():
                visit.page.click("#run")
        visit.status(copy.DONE)
        runs.append([visit.text(lane) for lane in ("base", "patched", "reference")])
        visit.left(address)
    assert runs[0] == runs[1] == runs[2]


def test_a_link_opens_another_tab(browser: Browser, address: str) -> None:
    visit = Visit(browser, f"{address}?tab=batch")
    visit.page.wait_for_selector("[role=tab][aria-selected=true]:has-text('Batch')")
    visit.page.wait_for_selector("#batch-prompts")
    assert "tab=batch" in shared(visit)
    visit.left(address)


def test_a_made_up_link_is_one_line_and_nothing_of_it_runs(browser: Browser, address: str) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    visit = Visit(browser, f"{address}?prompt={quote(hostile)}&colour={quote(hostile)}&temperature=9&preset=none&tab=x&samples=3"
                           f"&patches={quote('refusal:0.5,~gone@1.0.0:1')}&{quote(hostile)}=1&length=7&seed={quote(hostile)}")
    visit.page.wait_for_selector(".link-note [role=alert]")
    said = visit.page.inner_text(".link-note")
    assert "“colour”" in said and "\n" not in said.strip() and len(said) < 400
    assert visit.page.input_value("#prompt textarea") == hostile
    assert visit.page.locator(".gradio-container img[src=x]").count() == 0
    assert [box.is_checked() for box in visit.page.locator(".patch-slot input[type=checkbox]").all()] == [True, False, False]
    visit.page.click("#more button")
    visit.page.wait_for_selector("#length input[type=number]")
    assert visit.page.locator("#length input[type=number]").input_value() == "48"
    visit.status(copy.READY)
    visit.left(address)


def test_what_is_too_long_for_a_link_is_said(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    visit.page.fill("#prompt textarea", "long " * 2000)
    visit.page.click("#share")
    visit.page.wait_for_selector("#share-box [role=alert]:has-text('shorten the prompt')")
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_selector("#share-box", state="hidden")
    visit.left(address)


def test_a_link_loads_the_preset_it_names(browser: Browser, lab: Lab, tmp_path: Path) -> None:
    other = Lab(make_backbone("llama"), registry=Registry([tmp_path / "none"]), name="smollm2", about="Another model.")
    with served(Offered(lab, ["smollm2"], lambda name: other)) as address:
        visit = Visit(browser, f"{address}?preset=smollm2&prompt=tell+me+a+story&length=8&run=1")
        visit.page.wait_for_function("document.querySelector('#preset input').value.startsWith('SmolLM2')")
        visit.page.wait_for_function("document.querySelectorAll('.lane').length === 2")
        visit.status(copy.DONE)
        assert visit.page.input_value("#prompt textarea") == "tell me a story" and "8 tokens" in visit.page.inner_text("#lanes")
        assert visit.page.locator("#history tbody tr").count() == 1
        visit.left(address)
