"""What a visitor's browser measures of the page: where things stand, how soon words come, what moves, what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page

from patchlab.ui import copy

WAIT = 120_000  # milliseconds
LANES = ("base", "patched", "reference")
WATCH = """window.shifted = 0; new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  if (!entry.hadRecentInput) window.shifted += entry.value; })).observe({type: 'layout-shift', buffered: true});"""
TEXTS = "[...document.querySelectorAll('[id^=lane-] .text')].map((node) => node.innerText).join('|')"
TOKENS = "[...document.querySelectorAll('[id^=lane-] .end span')].reduce((sum, node) => sum + (parseInt(node.innerText) || 0), 0)"
STATUS = "document.querySelector('#status').innerText"
# seconds from Run to the first word; tokens and seconds from there to the end
RUN = f"""async () => {{
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const before = {TEXTS}, number = document.querySelector('#status p').dataset.number, pressed = performance.now();
    const late = () => {{ if (performance.now() - pressed > {WAIT}) throw new Error('not done: ' + {STATUS}); }};
    document.querySelector('#run').click();
    while (true) {{
        await frame(); late();
        const now = {TEXTS};
        if (now !== before && now.length > 0 && {STATUS}.includes('{copy.WRITING}')) break;
    }}
    const first = performance.now(), tokens = {TOKENS};
    while (!({STATUS}.includes('{copy.DONE}') && document.querySelector('#status p').dataset.number !== number)) {{
        await frame(); late();
    }}
    return {{first: (first - pressed) / 1000, seconds: (performance.now() - first) / 1000, tokens: {TOKENS} - tokens}};
}}"""
TOGGLE = f"""async () => {{
    const text = () => document.querySelector('#lane-patched .text')?.innerText ?? '', before = text();
    const pressed = performance.now();
    document.querySelector('.patch-slot input[type=checkbox]').click();
    while (text() === before) {{
        await new Promise((resolve) => requestAnimationFrame(resolve));
        if (performance.now() - pressed > {WAIT}) throw new Error('the text stays');
    }}
    return (performance.now() - pressed) / 1000;
}}"""
NODES = "[...document.querySelectorAll('.charts .live-chart-node, .charts .main-svg')]"
MARK = f"() => {NODES}.forEach((node) => {{ node.dataset.kept = 'yes'; }})"
REMOUNTED = f"{NODES}.filter((node) => !node.dataset.kept).length"


class Visitor:
    """A page of its own, without anything cached, and what it asked for and complained about."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280, height: int = 900, query: str = "") -> None:
        self.address, self.outside, self.errors = address, [], []  # type: ignore[var-annotated]
        self.page: Page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(WAIT)
        self.page.on("request", lambda request: None if request.url.startswith((address, "data:", "blob:"))
                     else self.outside.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.add_init_script(WATCH)
        began = time.perf_counter()
        self.page.goto(f"{address}/{query}")
        self.page.wait_for_selector("#chart-refusal .main-svg")
        self.opened = time.perf_counter() - began

    def ask(self, text: str, kind: str = "chat", *, length: int) -> None:
        """Set prompt and length."""
        self.page.check(f"#kind input[value={kind}]")
        self.page.fill("#prompt textarea", text)
        field = self.page.locator("#length input[type=number]")
        if not field.is_visible():
            self.page.click("#more button")
        while field.input_value() != str(length):
            field.fill(str(length))
            field.press("Tab")
            self.page.wait_for_timeout(100)

    def run(self) -> dict[str, Any]:
        """Press Run and wait for the end."""
        found: dict[str, Any] = self.page.evaluate(RUN)
        self.page.wait_for_timeout(300)
        return found

    def toggle(self) -> float:
        """Seconds from switching the first patch to another text."""
        seconds = float(self.page.evaluate(TOGGLE))
        self.done()
        return seconds

    def done(self) -> None:
        """Wait until nothing is written."""
        self.page.wait_for_function(f"{STATUS}.includes('{copy.DONE}') && !document.querySelector('.stale, [aria-busy=true]')")
        self.page.wait_for_timeout(300)

    def top(self) -> float:
        """The replies' upper edge in the window, in pixels."""
        return float(self.page.evaluate("document.querySelector('#lane-base .text').getBoundingClientRect().top"))

    def shifted(self) -> float:
        """The cumulative layout shift so far."""
        return float(self.page.evaluate("window.shifted"))


@contextmanager
def many(browser: Browser, address: str, queries: list[str]) -> Iterator[list[Visitor]]:
    """Visitors with these addresses, all open at once."""
    visitors = [Visitor(browser, address, query=query) for query in queries]
    yield visitors
    for visitor in visitors:
        visitor.page.close()
