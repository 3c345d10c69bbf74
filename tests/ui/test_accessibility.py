"""axe-core on every tab, at three widths, light and dark: nothing serious and nothing critical."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from made_visit import Visit
from playwright.sync_api import Browser

from patchlab.ui import copy, page

pytestmark = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
HARM = next(each for each in copy.EXAMPLES if each.prompt.domain == "refusal")
# impact, rule and elements of what speaks against the page; a frame is a document of its own, and its content is read too
FOUND = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter((each) => ['serious', 'critical'].includes(each.impact))
  .map((each) => [each.impact, each.id, ...each.nodes.map((node) => `${node.target} ${node.html}`.slice(0, 200))])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_tab(browser: Browser, address: str, scheme: str) -> None:
    visit = Visit(browser, address, scheme=scheme)
    visit.example(HARM.label)
    found = {}
    for width in (1280, 768, 390):
        visit.page.set_viewport_size({"width": width, "height": 900})
        for tab in page.TABS:
            visit.page.evaluate("""(label) => [...document.querySelectorAll('button[role="tab"]')]
                .find((each) => each.textContent.trim() === label).click()""", tab.label)
            visit.page.wait_for_selector(f"button[role=tab][aria-selected=true]:has-text('{tab.label}')", state="attached")
            visit.page.wait_for_timeout(300)
            for frame in visit.page.frames:
                frame.evaluate(AXE)
            told = visit.page.evaluate(FOUND)
            found |= {f"{tab.label} at {width}": told} if told else {}
    assert found == {}
    visit.left(address)
