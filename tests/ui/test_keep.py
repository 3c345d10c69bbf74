"""Runs that the browser keeps: read and checked again, shown again after a reload, cleared, and saved as files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_views import text, view
from made_visit import Visit
from playwright.sync_api import Browser

from patchlab.engine import Sampling
from patchlab.errors import InputError
from patchlab.patches import Stack
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.ui import copy
from patchlab.ui.compare import kept_runs, run_export
from patchlab.ui.compare.history import KEPT, row
from patchlab.ui.compare.kept_runs import Ran, listed, recalled
from patchlab.ui.session import MOST_TURNS, RunRequest
from patchlab.ui.share import share_words

browsing = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once

LANES = ("base", "patched", "reference")
FIRST = copy.EXAMPLES[0].label
STORED = "JSON.parse(localStorage.getItem('patchlab-runs:pocket') ?? '[]')"


def ran(words: str = "=1+1 you fool", toxicity: float = 0.9) -> Ran:
    """A run made by hand; what was asked has no number of its own."""
    shown = replace(view({lane: [text(words, toxicity)] for lane in LANES}), asked=PromptScore("harmless", float("nan"), 0.0))
    return Ran(RunRequest(shown.prompt, Stack.parse("toxicity:1,bias:0.5"), Sampling(seed=7)), shown)


def record(made: Ran) -> str:
    """What the browser gives back of a run."""
    return str(json.loads(kept_runs.record(made, replace(row(made.view), key="k")))["record"])


def test_a_run_comes_back_as_it_was() -> None:
    made = ran()
    found = recalled(record(made), LANES)
    assert found.request == made.request and found.view.lanes == made.view.lanes
    assert repr(found) == repr(made)  # equal also where a number is none


def test_a_conversation_comes_back_with_its_turns_once() -> None:
    made = ran()
    turn = replace(made.view, turns=())
    talk = Ran(replace(made.request, turns=(turn, turn)), replace(made.view, turns=(turn, turn)))
    assert repr(recalled(record(talk), LANES)) == repr(talk)
    assert record(talk).count("you fool") == 3 * len(LANES)
    for wrong in (replace(talk.view, turns=(turn,) * MOST_TURNS), replace(talk.view, turns=(replace(turn, turns=(turn,)),)),
                  replace(talk.view, turns=(replace(turn, lanes=turn.lanes[:2]),))):
        with pytest.raises(InputError, match="run the prompt again"):
            recalled(record(talk._replace(view=wrong)), LANES)


@pytest.mark.parametrize("change", [
    lambda text: text[:-1], lambda text: "[" * 100_000, lambda text: "null",
    lambda text: text.replace('"parallel"', '"sideways"'), lambda text: text.replace("0.9", "NaN"),
    lambda text: text.replace("you fool", "a" * 9000),
    lambda text: text.replace('"stop":"end"', '"stop":null'), lambda text: text + " " * kept_runs.MAX_RECORD,
    lambda text: text.replace('"toxicity","strength"', '"../x","strength"'), lambda text: text.replace('"seed":7', '"seed":-7'),
    lambda text: text.replace('"running":false', '"running":true')],
    ids=["cut", "deep", "null", "mode", "nan", "long", "unended", "large", "name", "seed", "running"])
def test_what_is_no_run_of_this_page_is_told_in_one_line(change: object) -> None:
    spoiled = change(record(ran()))  # type: ignore[operator]
    assert spoiled != record(ran())
    with pytest.raises(InputError, match="run the prompt again"):
        recalled(spoiled, LANES)


def test_a_run_with_other_columns_is_refused() -> None:
    with pytest.raises(InputError, match="other columns"):
        recalled(record(ran()), ("base", "patched"))


def test_a_list_holds_only_rows() -> None:
    rows = [json.loads(kept_runs.record(ran(), replace(row(ran().view), key=f"k{n}")))["row"] for n in range(KEPT + 9)]
    assert [each.key for each in listed(json.dumps(rows))] == [f"k{n}" for n in range(KEPT)]
    assert listed(json.dumps([rows[0] | {"prompt": "x" * 999}, rows[1]])) == [replace(row(ran().view), key="k1")]
    assert [listed(text) for text in ("", "{}", "[1]", "x" * 200_000)] == [[]] * 4


def test_files_hold_all_of_a_run_and_warn_of_toxic_replies() -> None:
    made = json.loads(run_export.as_json(ran()))
    assert made["content_note"] == run_export.CONTENT_NOTE and made["sampling"]["seed"] == 7
    assert [lane["replies"][0]["text"] for lane in made["lanes"]] == ["=1+1 you fool"] * 3
    rows = list(csv.DictReader(io.StringIO(run_export.as_csv(ran()))))
    assert [(line["lane"], line["text"], line["content note"]) for line in rows] == [
        (copy.lane_words(lane).title, "'=1+1 you fool", copy.TOXIC_NOTICE) for lane in LANES]
    calm = ran("hello", 0.1)
    assert "content_note" not in json.loads(run_export.as_json(calm)) and copy.TOXIC_NOTICE not in run_export.as_csv(calm)


@browsing
def test_runs_survive_a_reload_are_shown_again_and_are_cleared(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    visit.example(FIRST)
    first = [visit.text(lane) for lane in LANES], visit.page.inner_text("#verdict")
    visit.page.locator(".patch-slot input[type=checkbox]").first.uncheck()
    visit.page.wait_for_function("document.querySelectorAll('#history tbody tr').length === 2")
    visit.page.wait_for_function(STORED + ".length === 2")  # a busy browser keeps a run some time after it shows it
    visit.page.wait_for_timeout(1000)  # what was asked for has been answered before the page goes
    visit.page.reload()
    visit.page.wait_for_function("document.querySelectorAll('#history tbody tr').length === 2")
    assert visit.page.evaluate(STORED + ".length") == 2
    with visit.page.expect_response("**/queue/join*"):
        visit.page.locator("button.recall").nth(1).click()
    visit.status(share_words.RECALLED)
    visit.page.wait_for_timeout(800)
    assert ([visit.text(lane) for lane in LANES], visit.page.inner_text("#verdict")) == first
    assert visit.page.input_value("#prompt textarea") == copy.EXAMPLES[0].prompt.text
    assert visit.page.locator(".patch-slot input[type=checkbox]").first.is_checked() and all(visit.points("toxicity"))
    assert visit.page.locator("#history tbody tr").count() == 2, "nothing is run anew"
    visit.page.click("#clear")
    visit.page.wait_for_selector(f"text={copy.HISTORY_EMPTY}")
    assert visit.page.evaluate(STORED) == []
    visit.page.wait_for_timeout(1000)  # what was asked for has been answered before the page goes
    visit.page.reload()
    visit.page.wait_for_selector("#chart-refusal .main-svg")
    visit.page.wait_for_timeout(500)
    assert visit.page.locator("#history tbody tr").count() == 0
    visit.left(address)


@browsing
def test_a_run_and_its_charts_are_saved(browser: Browser, address: str, tmp_path: Path) -> None:
    visit = Visit(browser, address)
    visit.page.click("#save-json")
    visit.status(share_words.NOTHING_TO_SAVE)
    visit.example(FIRST)
    for button, name in (("#save-json", "patchlab-run.json"), ("#save-csv", "patchlab-run.csv"),
                         (".chart-png >> nth=0", "patchlab-toxicity.png")):
        with visit.page.expect_download() as download:
            visit.page.click(button)
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    made = json.loads((tmp_path / "patchlab-run.json").read_text(encoding="utf-8"))
    assert visit.text("base").endswith(made["lanes"][0]["replies"][0]["text"].strip())
    assert made["content_note"] and copy.TOXIC_NOTICE in (tmp_path / "patchlab-run.csv").read_text(encoding="utf-8")
    assert (tmp_path / "patchlab-toxicity.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    visit.left(address)
