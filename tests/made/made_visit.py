"""A visitor's page in a real browser, and the server it comes from."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from patchlab.engine import Lab
from patchlab.records import Delta
from patchlab.ui import copy, session
from patchlab.ui import page as patchlab_page
from patchlab.ui.offered import Offered

SHOTS = Path(__file__).resolve().parents[2] / ".screenshots"
SHIFTS = """window.shifted = 0; new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  if (!entry.hadRecentInput) window.shifted += entry.value; })).observe({type: 'layout-shift', buffered: true});"""
# controls without a name
UNNAMED = """() => [...document.querySelectorAll('button, input, textarea, select, summary, [role=img]')].filter((each) =>
  each.offsetParent && !(each.getAttribute('aria-label') || each.labels?.length || each.closest('label')?.innerText.trim()
    || each.innerText?.trim() || each.getAttribute('aria-labelledby'))).map((each) => each.outerHTML.slice(0, 120))"""
# WCAG contrast of every text with a colour of the page's own, against the nearest background that is not transparent
PALE = """() => { const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  return [...document.querySelectorAll('.screen *, .page-bar *, .note, .history *')].filter((each) => each.offsetParent &&
    [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && !each.closest('svg, .stale')).map((each) => {
      let under = each, fill = [0, 0, 0, 0];
      while (under && ((fill = parse(getComputedStyle(under).backgroundColor))[3] ?? 1) < 0.99) under = under.parentElement;
      const [a, b] = [light(parse(getComputedStyle(each).color)), light(fill)].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), each.innerText.slice(0, 40)]; }).filter(([found]) => found < 4.5); }"""
WAIT = 120_000  # milliseconds; a busy machine is slow, a broken page never comes


@contextmanager
def served(models: Lab | Offered, *, allowed: Collection[patchlab_page.Permission] = ()) -> Iterator[str]:
    """A real server of these models on a free port; visitors may do what is allowed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = patchlab_page.build(models, allowed=allowed)
    patchlab_page.warm_up(models.first if isinstance(models, Offered) else models)
    yield patchlab_page.launch(blocks, port=port, block=False)
    blocks.close(verbose=False)


def hold_first_run(monkeypatch: pytest.MonkeyPatch) -> Event:
    """The next run writes some steps and goes on when it is told to stop, however fast the models; returns what its end sets."""
    write, ended = session.stream, Event()

    def held(*args: Any, stop: Callable[[], bool], **kwargs: Any) -> Iterator[tuple[Delta, ...]]:
        monkeypatch.setattr(session, "stream", write)
        steps = write(*args, stop=stop, **kwargs)
        try:
            for number, step in enumerate(steps):
                yield step
                while number == 4 and not stop():
                    time.sleep(0.01)
        finally:
            steps.close()
            ended.set()

    monkeypatch.setattr(session, "stream", held)
    return ended


class Visit:
    """A visitor's page, with everything it asked for and complained about."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, height: int = 900, scheme: str = "light",
                 script: str = "") -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page.set_default_timeout(WAIT)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text)
                     if message.type in ("error", "warning") else None)
        self.page.add_init_script(SHIFTS + script)
        self.page.goto(url)
        self.page.wait_for_selector("#chart-refusal .main-svg")

    def tab(self, label: str) -> None:
        """Open a tab; it answers only once the page has come to life."""
        tab = self.page.locator(f"button[role=tab]:text-is('{label}')").first
        while tab.get_attribute("aria-selected") != "true":
            tab.click()
            self.page.wait_for_timeout(100)

    def run(self, *, tokens: int = 16) -> None:
        """Press Run and wait for the end."""
        self.length(tokens)
        with self.ending():
            self.page.click("#run")

    def example(self, label: str) -> None:
        """Choose an example, which runs it, and wait for the end."""
        with self.ending():
            self.page.click(f"button.example:text-is('{label}')")

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Wait for the end of the run that begins inside."""
        number = self.page.get_attribute("#status p", "data-number")
        yield
        self.page.wait_for_function("""([number, words]) => { const line = document.querySelector('#status p');
            return line.dataset.number !== number && line.innerText.includes(words); }""", arg=[number, copy.DONE])
        # a chart draws what it was given up to a tenth of a second later: wait until all lines are there and none grows
        self.page.wait_for_function("""(chart) => {
            const before = window.drawn;
            window.drawn = [...document.querySelectorAll(chart)].map((node) => node.dataset.points).join(' ');
            return window.drawn === before && !window.drawn.split(' ').includes('0'); }""", arg=".live-chart-node", polling=250)

    def status(self, words: str) -> None:
        """Wait until the status line says so."""
        self.page.wait_for_function("(words) => document.querySelector('#status').innerText.includes(words)", arg=words)

    def length(self, tokens: int) -> None:
        """Set how long replies may be."""
        field = self.page.locator("#length input[type=number]")
        if not field.is_visible():
            self.page.click("#more button")
        while field.input_value() != str(tokens):  # a field that was typed into while it was opened forgets it
            field.fill(str(tokens))
            field.press("Tab")
            self.page.wait_for_timeout(100)

    def place(self, selector: str) -> dict[str, float]:
        """The box of the first match, from the page's top left corner."""
        return self.page.evaluate("""(selector) => { const box = document.querySelector(selector).getBoundingClientRect();
            return {left: box.left + scrollX, top: box.top + scrollY, bottom: box.bottom + scrollY}; }""", selector)

    def text(self, lane: str) -> str:
        """The reply of a column."""
        return self.page.inner_text(f"#lane-{lane} .text")

    def points(self, chart: str) -> list[int]:
        """How many points each line of a chart has."""
        counts = self.page.get_attribute(f"#chart-{chart} .live-chart-node", "data-points") or ""
        return [int(count) for count in counts.split()]

    def heights(self, chart: str) -> list[list[float]]:
        """What each line of a chart shows."""
        return self.page.evaluate(f"[...document.querySelectorAll('#chart-{chart} .js-plotly-plot')]"
                                  ".flatMap((plot) => plot.data.map((line) => line.y))")

    def left(self, address: str) -> None:
        """Close the page; it must have asked `address` for everything and complained about nothing."""
        self.page.close()
        assert not [url for url in self.requests if not url.startswith((address, "data:", "blob:"))]
        assert self.complaints == [], self.complaints

    def shot(self, name: str) -> None:
        """Keep a picture to look at."""
        SHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
