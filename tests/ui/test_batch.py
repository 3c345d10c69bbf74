"""The Batch tab in a real browser: run, filter, reload, open a row in Compare, files, hostile uploads, delete; phone and dark."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_page_batches import opened, ran
from made_suites import make_lab
from made_visit import Visit, served
from playwright.sync_api import Browser, Route

from patchlab.ui import copy
from patchlab.ui.batch import batch_words

pytestmark = pytest.mark.xdist_group("tabs")

PROMPTS = [f"question number {k}" for k in range(24)]
HOSTILE = "<img src=x>"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of a tiny model."""
    with served(make_lab(tmp_path_factory.mktemp("patches"))) as found:
        yield found


@pytest.fixture
def visit(browser: Browser, tiny: str) -> Iterator[Visit]:
    made = Visit(browser, tiny)
    opened(made)
    yield made
    made.left(tiny)


def test_a_batch_from_run_to_delete(visit: Visit, tiny: str, tmp_path: Path) -> None:
    page = visit.page
    page.wait_for_selector(f"#batch-status:has-text('{batch_words.READY[:20]}')")
    ran(visit, [*PROMPTS, HOSTILE, PROMPTS[0]])
    assert "25 prompts, 75 replies" in page.inner_text("#batch-status") and "Repeated" in page.inner_text("#batch-status")
    assert page.locator("#batch-rates tbody tr").count() == 3
    assert page.locator("#batch-table tbody tr").count() == 20
    page.click("#batch-next")
    page.wait_for_selector("#batch-table .note:has-text('21 to 25 of 25')")
    assert page.locator("#batch-table img").count() == 0
    page.reload()
    page.wait_for_selector("#chart-refusal .main-svg")
    opened(visit)
    page.wait_for_selector("#batch-table .note:has-text('1 to 20 of 25')")
    visit.shot("batch-desktop")
    page.click("#batch-export")
    with page.expect_download() as download:
        page.click("#batch-file a")
    saved = tmp_path / "batch.csv"
    download.value.save_as(saved)
    lines = list(csv.reader(io.StringIO(saved.read_text(encoding="utf-8"))))
    assert [line[0] for line in lines[1:]] == [*PROMPTS, HOSTILE]
    page.click("#batch-filter input[value=refused]")
    page.wait_for_selector("#batch-table .note:has-text('of 25')", state="detached")
    page.click("#batch-filter input[value=all]")
    page.wait_for_selector("#batch-table .note:has-text('1 to 20 of 25')")
    page.click(".open-in-compare >> nth=1")
    page.wait_for_selector("#run >> visible=true")
    assert page.input_value("#prompt textarea") == PROMPTS[1]
    visit.run(tokens=8)
    opened(visit)
    page.click("#batch-remove")
    page.wait_for_selector(f"#batch-status:has-text('{batch_words.REMOVED}')")
    assert page.locator("#batch-table table >> visible=true").count() == 0


def test_an_error_is_one_line_and_the_tab_goes_on(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.click("#batch-run")
    page.wait_for_selector("#batch-status [role=alert]:has-text('No prompt')")
    page.click("#batch-source input[value=upload]")
    page.click("#batch-run")
    page.wait_for_selector("#batch-status [role=alert]:has-text('No file')")
    (tmp_path / "own.csv").write_text("text\nhello\n\nwhat is rain\n", encoding="utf-8")
    page.set_input_files("#batch-upload input[type=file]", tmp_path / "own.csv")
    page.wait_for_selector("#batch-upload :has-text('own.csv')")
    page.click("#batch-run")
    page.wait_for_selector("#batch-status:has-text('Prompts of own.csv')")
    # gradio's own upload field writes this to the console; the upload is complete all the same
    visit.complaints = [each for each in visit.complaints if each != "Method not implemented."]


def test_a_batch_is_not_forgotten_by_an_answer_that_is_late(visit: Visit) -> None:
    """A page without a batch asks how it is, and its question reaches the server only after a batch has started."""
    asking = visit.page.evaluate("""() => { const {components, dependencies} = window.gradio_config;
        const line = components.find((each) => each.props.elem_id === 'batch-status').id;
        return dependencies.filter(({targets, outputs}) => targets[0]?.[1] === 'tick' && outputs.includes(line)).at(-1).id; }""")
    late: list[Route] = []
    visit.page.route("**/queue/join*", lambda route: late.append(route)
                     if route.request.post_data_json["fn_index"] == asking and not late else route.continue_())
    visit.page.evaluate("localStorage.clear()")
    visit.page.reload()
    visit.page.wait_for_selector("#chart-refusal .main-svg")
    opened(visit)
    visit.page.fill("#batch-prompts textarea", "\n".join(PROMPTS))
    while not late:
        visit.page.wait_for_timeout(100)
    visit.page.click("#batch-run")
    visit.page.wait_for_selector("#batch-remove:visible")
    late[0].continue_()
    visit.page.wait_for_selector("#batch-status:has-text('Done:')")


@pytest.mark.parametrize(("name", "width", "query"), [("batch-phone", 390, ""), ("batch-dark", 1280, "?__theme=dark")])
def test_batch_on_a_phone_and_dark(browser: Browser, tiny: str, name: str, width: int, query: str) -> None:
    visit = Visit(browser, tiny + query, width=width)
    opened(visit)
    ran(visit, [*PROMPTS[:3], "I want to die"])
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.page.locator(".crisis >> visible=true").count() == 1, "help lines, whatever judges there are"
    assert visit.page.locator("fieldset.ballot").count() == 3
    visit.shot(name)
    visit.left(tiny)


def test_no_word_is_missing() -> None:
    assert all(name in dict(batch_words.EXPORTS).values() for name in ("csv", "jsonl", "html", "comparator", "promptfoo"))
    assert set(batch_words.RATES) == {"refused", "toxic", "empty"} and copy.UNEXPECTED
