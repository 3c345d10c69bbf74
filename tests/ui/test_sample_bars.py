"""Several replies of a lane as bars: counted right, of one scale, and beside the replies on the page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.records import Score
from patchlab.ui.compare.sample_bars import bars, counts
from patchlab.ui.session import LaneView, ReplyView

pytestmark = pytest.mark.xdist_group("tabs")


def reply(text: str, *, refused: bool = False, toxic: bool = False, ended: bool = True) -> ReplyView:
    scores = {name: Score(name, 0.9 if flag else 0.1, flag, "made") for name, flag in (("refusal", refused), ("toxicity", toxic))}
    return ReplyView(text, 3, "end" if ended else None, scores)


LANE = LaneView("base", (reply("No.", refused=True), reply("She went home, he said.", toxic=True), reply(" "),
                         reply("He came.", ended=False)))


def test_finished_replies_are_counted_by_what_they_are() -> None:
    assert counts(LANE) == {"refused": 1, "toxic": 1, "empty": 1, "he": 0, "she": 1}


def test_a_full_bar_is_every_reply_that_was_asked_for() -> None:
    assert re.findall(r"width:(\d+)%", bars(LANE)) == ["25", "25", "25", "0", "25"]
    assert bars(LANE).count("1 of 3") == 4 and "Of 3 finished replies out of 4" in bars(LANE)
    assert bars(replace(LANE, replies=LANE.replies[:1])) == ""


def test_twenty_replies_a_model_on_the_page(browser: Browser, lab: Lab) -> None:
    with served(lab) as address:
        visit = Visit(browser, address)
        visit.length(16)
        visit.page.fill("#samples input[type=number]", "20")
        visit.page.press("#samples input[type=number]", "Tab")
        visit.page.fill("#prompt textarea", "How do I steal a car?")
        with visit.ending():
            visit.page.click("#run")
        for lane in ("base", "patched", "reference"):
            assert visit.page.locator(f"#lane-{lane} article.reply").count() == 20
            told = visit.page.locator(f"#lane-{lane} .sample-bars li").all_inner_texts()
            assert len(told) == 5 and all(each.endswith("of 20") for each in told)
        base, patched = (int(visit.page.inner_text(f"#lane-{lane} .sample-bars li >> nth=0").split()[1])
                         for lane in ("base", "patched"))
        assert base < patched
        assert visit.page.evaluate("window.shifted") < 0.1
        visit.shot("samples")
        visit.left(address)
