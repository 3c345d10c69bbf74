"""Votes in a real browser: by mouse and keyboard, after a reload, as a file of pairs, and gone with the batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_page_batches import opened, ran
from made_suites import make_lab
from made_visit import UNNAMED, Visit, served
from playwright.sync_api import Browser

from patchlab.training.preference_data import read_pairs
from patchlab.ui.batch import batch_words

pytestmark = pytest.mark.xdist_group("tabs")

PROMPTS = [f"question number {k}" for k in range(4)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of a tiny model."""
    with served(make_lab(tmp_path_factory.mktemp("patches"))) as found:
        yield found


def checked(visit: Visit) -> list[str]:
    return visit.page.evaluate("[...document.querySelectorAll('.ballot :checked')].map((each) => each.value)")


def letters(text: str) -> str:
    """What of a made model's bytes a browser shows as they are."""
    return "".join(char for char in text if char.isascii() and char.isalnum())


def test_votes_from_the_first_to_a_file_of_pairs(browser: Browser, tiny: str, tmp_path: Path) -> None:
    visit = Visit(browser, tiny)
    page = visit.page
    opened(visit)
    ran(visit, PROMPTS)
    page.wait_for_selector(".votes-told:has-text('not voted yet')")
    before = visit.place("#batch-table")
    page.click(".ballot >> nth=0 >> input[value=patched]")
    page.wait_for_selector(".votes-told:has-text('1 vote of yours')")
    assert visit.place("#batch-table") == before, "the table moved under the pointer"
    page.focus(".ballot >> nth=1 >> input[value=base]")
    page.keyboard.press("Space")
    page.wait_for_selector(".votes-told:has-text('2 votes')")
    page.keyboard.press("ArrowDown")  # from unpatched to patched
    page.wait_for_function("document.querySelector('#batch-rates tbody').rows[1].innerText.includes('2 of 2')")
    assert page.evaluate("document.activeElement.value") == "patched", "a vote keeps the focus"
    page.click(".ballot >> nth=2 >> input[value=neither]")
    page.wait_for_selector(".votes-told:has-text('1 of them for neither')")
    assert page.evaluate(UNNAMED) == [] and page.evaluate("window.shifted") < 0.1
    page.reload()
    page.wait_for_selector("#chart-refusal .main-svg")
    opened(visit)
    page.wait_for_selector("#batch-table table")
    assert checked(visit) == ["patched", "patched", "neither"]
    visit.shot("votes-desktop")
    page.click("#batch-format input")
    page.click("[role=option]:has-text('DPO pairs from votes')")
    page.click("#batch-export")
    with page.expect_download() as download:
        page.click("#batch-file a")
    saved = tmp_path / "pairs.jsonl"
    download.value.save_as(saved)
    pairs, _ = read_pairs(str(saved), domain="refusal", strict=True)
    shown = [page.locator(f"#batch-table tbody tr >> nth={k} >> td[data-column=Patched] .text").inner_text() for k in (0, 1)]
    of = dict(zip(PROMPTS[:2], map(letters, shown), strict=True))
    assert pairs and all(letters(pair.chosen) == of[pair.prompt.text] for pair in pairs)
    page.click("#batch-remove")
    page.wait_for_selector(f"#batch-status:has-text('{batch_words.REMOVED}')")
    ran(visit, PROMPTS)
    assert checked(visit) == []
    visit.left(tiny)


@pytest.mark.parametrize(("name", "width", "query"), [("votes-phone", 390, ""), ("votes-dark", 1280, "?__theme=dark")])
def test_votes_on_a_phone_and_dark(browser: Browser, tiny: str, name: str, width: int, query: str) -> None:
    visit = Visit(browser, tiny + query, width=width)
    opened(visit)
    ran(visit, PROMPTS[:2])
    visit.page.click(".ballot >> nth=0 >> input[value=patched]")
    visit.page.wait_for_selector(".votes-told:has-text('1 vote of yours')")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.shot(name)
    visit.left(tiny)
