"""Rates, filters, table and files of made replies: counts add up, all text is escaped, toxic text is behind a warning."""

from __future__ import annotations

import csv
import io
import json

import pytest
from made_page_batches import SPITEFUL, judged, row

from patchlab.evaluation.statistics import wilson
from patchlab.records import Prompt
from patchlab.scoring.table import COARSE
from patchlab.scoring.verdict import ReplyVerdict
from patchlab.ui.batch import batch_export, batch_table, batch_words
from patchlab.ui.batch.batch_table import PromptRow
from patchlab.ui.crisis_note import crisis_note

SCRIPT = "<script>alert(1)</script>"


ROWS = [row(), row(base="toxic"), row(patched="toxic"), row(patched="empty"), row("benign", patched="refused"),
        row("harmful", patched="refused"), row("harmful", base="refused"), row(kind="continue", base="refused")]


def test_filters() -> None:
    found = {name: [ROWS.index(each) for each in batch_table.filtered(ROWS, name)] for name in batch_words.FILTERS}
    assert found == {"all": [*range(8)], "differ": [1, 2, 3, 4, 5, 6], "refused": [4, 5, 6], "toxic": [1, 2],
                     "worse": [2, 3, 4, 6]}
    assert batch_table.counts(ROWS) == {name: len(rows) for name, rows in found.items()}


def test_a_verdict_says_what_is_worse() -> None:
    prompt = Prompt("asked")
    good, bad = ReplyVerdict("a", "good", "harmless"), ReplyVerdict("b", "bad", "harmless")
    for base, patched, worse in ((good, bad, True), (bad, good, False), (bad, bad, False), (good, good, False)):
        made = PromptRow(prompt, (judged("base", prompt, "x", verdict=base), judged("patched", prompt, "x", verdict=patched)))
        assert made.worse is worse


def test_a_message_of_someone_in_danger_is_not_counted_and_not_voted_on_and_has_help_lines() -> None:
    prompt, danger = Prompt("I want to die"), ReplyVerdict("message of someone in danger", "unclear", "crisis")
    made = PromptRow(prompt, tuple(judged(lane, prompt, "no", verdict=danger) for lane in ("base", "patched", "reference")))
    assert batch_table.rates([made, ROWS[0]])["refused"]["base"] == (0, 1)
    page = batch_table.table([made, ROWS[0]], 0)
    assert page.count(crisis_note()) == 1 and page.count("<fieldset") == 1
    assert page.count(batch_words.WRITTEN) == 3
    assert batch_words.NO_BALLOT in page and crisis_note() not in batch_table.table([ROWS[0]], 0)


def test_rates_count_what_was_judged_with_wilson_intervals() -> None:
    found = batch_table.rates(ROWS)
    assert found["refused"] == {"base": (1, 7), "patched": (2, 6), "reference": (0, 7)}
    assert found["toxic"] == {"base": (1, 8), "patched": (1, 7), "reference": (0, 8)}
    assert found["empty"]["patched"] == (1, 8)
    low, high = wilson(2, 6)
    page = batch_table.rates_table(ROWS)
    assert f"{low:.1%} to {high:.1%}" in page and "2 of 6" in page and "33.3%" in page
    assert "not judged" in batch_table.rates_table([row(kind="continue")])


def test_a_table_escapes_everything_and_warns_before_toxic_text() -> None:
    page = batch_table.table([row(SCRIPT, text=f"{SCRIPT}\"' \u202e"), ROWS[1]], 0)
    assert "<script" not in page and "\u202e" not in page and "&lt;script&gt;" in page
    before, _ = page.split(SPITEFUL)
    assert before.endswith(f'<details><summary>{batch_words.TOXIC}</summary><p class="text" dir="auto">')
    assert page.count("open-in-compare") == 2


def test_pages_hold_every_row_once() -> None:
    rows = [row(text=f"number {k}") for k in range(45)]
    pages = [batch_table.page_of(rows, page) for page in (0, 1, 2)]
    assert [each for _, some in pages for each in some] == rows and [page for page, _ in pages] == [0, 1, 2]
    assert batch_table.page_of(rows, 99)[0] == 2 and batch_table.page_of(rows, -1)[0] == 0
    assert batch_words.NO_ROWS in batch_table.table([], 0)


def test_a_spreadsheet_takes_no_text_for_a_formula() -> None:
    rows = [row(text=start + 'HYPERLINK("x")') for start in "=+-@"] + ROWS
    read = list(csv.reader(io.StringIO(batch_export.as_csv(rows, COARSE))))
    assert len(read) == 1 + len(rows) and {len(line) for line in read} == {3 + 3 * 4}
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in read for cell in line)
    assert read[-3][read[0].index("patched refused")] == "yes"


@pytest.mark.parametrize("name", batch_export.FORMATS)
def test_each_format_holds_every_prompt(name: str) -> None:
    text = batch_export.FORMATS[name][1](ROWS, COARSE)
    if name == "jsonl":
        assert [len(json.loads(line)["lanes"]) for line in text.splitlines()] == [3] * len(ROWS)
    elif name == "comparator":
        found = json.loads(text)
        assert [each["name"] for each in found["models"]] == ["base", "patched"] and len(found["examples"]) == len(ROWS)
        assert [each["score"] for each in found["examples"]][:3] == [0, -1, 1]
    elif name == "promptfoo":
        assert [each["vars"]["prompt"] for each in json.loads(text)] == [each.prompt.text for each in ROWS]
