"""Many visitors at once: their requests share one batch, and nobody's reply, stop or closed tab reaches another."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from made_visit import WAIT, Visit, hold_first_run
from playwright.sync_api import Browser

from patchlab.engine import Lab, Sampling
from patchlab.records import Delta
from patchlab.ui import copy, session
from patchlab.ui.compare.tab import TOP_P

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once


def test_six_visitors_do_not_mix(browser: Browser, address: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    running, together, write = 0, [], session.stream
    everyone = Event()

    def counted(*args: Any, **kwargs: Any) -> Iterator[tuple[Delta, ...]]:
        nonlocal running
        running += 1
        if running == 6:
            everyone.set()
        together.append(everyone.wait(WAIT / 1000))  # nobody ends before all have begun: none waits for another to end
        yield from write(*args, **kwargs)

    monkeypatch.setattr(session, "stream", counted)
    examples = copy.EXAMPLES[::2]
    visits = [Visit(browser, address) for _ in examples]
    for visit, example in zip(visits, examples, strict=True):
        visit.length(24)
        visit.page.click(f"text={example.label}")
    names = [installed.manifest.name for installed in lab.planner.installed()]
    stack = session.stack_of(names, {name: lab.planner.patch(name).manifest.strength for name in names})
    sampling = Sampling(temperature=0.8, max_new_tokens=24, seed=0, top_p=TOP_P)
    for visit, example in zip(visits, examples, strict=True):
        visit.status(copy.DONE)
        for reply in lab.replies(example.prompt, stack=stack, sampling=sampling):
            assert visit.text(reply.lane).split() == [*(example.prompt.text.split() if example.prompt.kind == "continue" else []),
                                                      *reply.text.split()], (reply, visit.page.inner_text(f"#lane-{reply.lane}"))
        assert visit.page.locator("#history tbody tr").count() == 1
    assert together == [True] * 6
    for visit in visits:
        visit.left(address)


def test_a_closed_tab_ends_its_run(browser: Browser, address: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = hold_first_run(monkeypatch)
    visit = Visit(browser, address)
    visit.page.click("text=Saving for a vacation")
    visit.page.wait_for_selector("#lane-base .reply")
    visit.page.close()
    assert ended.wait(WAIT / 1000) and lab.scheduler.in_flight == 0
