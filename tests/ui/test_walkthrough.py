"""The walkthrough in a real browser: its address, keys and notes, and a recorded prompt asked live."""

from __future__ import annotations

import pytest
from made_visit import Visit
from playwright.sync_api import Browser

from patchlab.ui.walkthrough import read_walkthrough
from patchlab.ui.walkthrough.frame import RECORDED

pytestmark = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once


@pytest.mark.parametrize("width", [1280, 390])
def test_its_address_fills_the_window_and_keys_turn_its_pages(browser: Browser, address: str, width: int) -> None:
    visit = Visit(browser, address, width=width)
    visit.page.goto(f"{address}?view=walkthrough")
    steps = read_walkthrough(RECORDED).steps
    frame = visit.page.frame_locator("#walkthrough")
    frame.locator("section.now h1").wait_for()
    box = visit.page.locator("#walkthrough").bounding_box()
    assert box and (box["x"], box["y"], box["width"]) == (0, 0, width)
    for number, step in enumerate(steps, 1):
        assert frame.locator("section.now h1").inner_text() == step.title
        assert frame.locator("#place").inner_text() == f"Step {number} of {len(steps)}"
        wide = frame.locator("main").evaluate("main => main.scrollWidth - main.clientWidth")
        assert wide <= 0, f"step {number} is wider than the window"
        visit.shot(f"walkthrough-{width}-{number}")
        frame.locator("body").press("ArrowRight")
    frame.locator("body").press("Home")
    frame.locator("body").press("n")
    assert frame.locator("#notes").inner_text() == steps[0].notes
    visit.left(address)


def test_a_recorded_prompt_is_asked_live(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    visit.page.goto(f"{address}?view=walkthrough")
    [asked] = [run.asked for run in read_walkthrough(RECORDED).steps[0].exchanges]
    visit.page.frame_locator("#walkthrough").get_by_text("Run it live").first.click()
    visit.page.wait_for_url(lambda url: "?ask=" in url)
    visit.page.locator("#prompt textarea").wait_for()
    visit.page.wait_for_function("document.querySelector('#status').innerText.includes('Done')", timeout=120_000)
    assert visit.page.input_value("#prompt textarea") == asked
    assert visit.text("base")
    visit.left(address)
