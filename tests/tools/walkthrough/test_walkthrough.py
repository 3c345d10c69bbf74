"""The walkthrough is recorded from real lanes, its figures come from a results file, and its page holds everything escaped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchlab.engine import load
from patchlab.errors import InputError
from patchlab.ui.walkthrough import Walkthrough, read_walkthrough, rendered
from tools.walkthrough.__main__ import figures, recorded
from tools.walkthrough.words import HARMFUL, STEPS


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    rows = [{"name": "base refuses harmful", "value": 0.104, "low": 0.08, "high": 0.14, "n": 441}]
    (folder / "public-refusal.json").write_text(json.dumps({"figures": rows}))
    return folder


@pytest.fixture(scope="module")
def made(results: Path) -> Walkthrough:
    return recorded(load("pocket"), results=results)


def test_every_step_is_there_with_what_the_lanes_said(made: Walkthrough) -> None:
    by = dict(zip(STEPS, made.steps, strict=True))
    assert [said.lane for said in by["before"].exchanges[0].said] == ["Unpatched", "Patched", "Reference"]
    [chat] = by["chat"].exchanges
    assert len(chat.earlier) == 6
    [off] = by["off"].exchanges
    assert off.said[0].text == off.said[2].text and off.said[2].note == "The same reply, word for word."
    [stacked] = by["stack"].exchanges
    assert stacked.said[0].lane == " + ".join(reversed(stacked.said[1].lane.split(" + ")))
    assert by["gap"].exchanges[0].asked == HARMFUL.text


def test_figures_are_those_of_the_results_and_absent_ones_are_left_out(results: Path) -> None:
    found = figures(results)
    assert found["cost"] == ()
    [(value, words)] = found["gap"]
    assert value == "10%" and words.endswith("(8% to 14%, n = 441)")


def test_the_page_needs_no_other_file_and_escapes(made: Walkthrough) -> None:
    step = made.steps[0]
    said = step.exchanges[0].said[0].model_copy(update={"text": "<script>alert(1)</script>"})
    exchange = step.exchanges[0].model_copy(update={"said": (said,)})
    hostile = made.model_copy(update={"steps": (step.model_copy(update={"exchanges": (exchange,)}), *made.steps[1:])})
    page = rendered(hostile, live=False)
    assert "<script>alert" not in page and page.count("<section") == len(STEPS)
    assert not any(word in page for word in ("src=", "http", "@import")) and "href=" not in page
    assert f"?ask={exchange.asked.split()[0]}" in rendered(made, live=True)


def test_it_is_read_as_it_was_written_and_another_file_is_refused(made: Walkthrough, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(made.model_dump_json())
    assert read_walkthrough(tmp_path / "a.json") == made
    (tmp_path / "b.json").write_text('{"model": "x"}')
    with pytest.raises(InputError, match="record it"):
        read_walkthrough(tmp_path / "b.json")
