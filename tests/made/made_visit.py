"""A visitor's page in a real browser, and the server it comes from."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
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
WAIT = 60_000  # milliseconds; a busy machine is slow, a broken page never comes


@contextmanager
def served(models: Lab | Offered) -> Iterator[str]:
    """A real server of these models on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = patchlab_page.build(models)
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

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, scheme: str = "light") -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page.set_default_timeout(WAIT)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text)
                     if message.type in ("error", "warning") else None)
        self.page.goto(url)
        self.page.wait_for_selector("#chart-refusal .main-svg")

    def run(self, *, tokens: int = 16) -> None:
        """Press Run and wait for the end."""
        self.length(tokens)
        number = self.page.get_attribute("#status p", "data-number")
        self.page.click("#run")
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
        assert self.complaints == []

    def shot(self, name: str) -> None:
        """Keep a picture to look at."""
        SHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
