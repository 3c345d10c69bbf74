"""The list of runs, and the words and examples of the page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_views import text, view

from patchlab.patches.stack import MODES, Mode
from patchlab.ui import copy
from patchlab.ui.compare.history import KEPT, added, row, table


def test_a_row_has_prompt_stack_and_verdicts_but_no_reply() -> None:
    new = row(view({"base": [text("you fool", 0.9)], "patched": [text("you friend")]}))
    assert (new.prompt, new.stack) == ("How do you do?", "toxicity 1, bias 0.5")
    assert dict(new.lanes)["base"].endswith("toxicity 0.90")
    assert "fool" not in table([new])


@pytest.mark.parametrize(("mode", "words"), [("sequential", "toxicity 1, then bias 0.5"), ("blend", "toxicity 1 + bias 0.5")])
def test_a_row_says_how_its_patches_were_joined(mode: Mode, words: str) -> None:
    assert row(replace(view({"base": [text("hi")]}), mode=mode)).stack == words
    assert {value for _, value in copy.MODES} == set(copy.JOINED) == set(MODES)


def test_a_row_calls_patches_by_their_titles() -> None:
    shown = replace(view({"base": [text("hi")]}), skipped_by_gate=("bias",))
    assert row(shown, {"toxicity": "Calm comments"}).stack == "Calm comments 1, bias 0.5 (off by their gates: bias)"


def test_several_replies_are_counted() -> None:
    new = row(view({"base": [text("you fool", 0.9), text("hello", 0.1), text("fool", 0.8)]}))
    assert dict(new.lanes)["base"] == "2 of 3 toxic · 0 of 3 refused"


def test_newest_first_and_not_without_end() -> None:
    rows = []
    for number in range(KEPT + 5):
        rows = added(rows, row(view({"base": [text("hi", number / 100)]})))
    assert len(rows) == KEPT and dict(rows[0].lanes)["base"].endswith("toxicity 0.54")


def test_the_table_escapes_what_a_visitor_typed() -> None:
    new = row(view({"base": [text("hi")]}))
    assert "<i>" not in table([type(new)("<i>x</i>", "none", new.lanes)])
    assert copy.HISTORY_EMPTY in table([])


def test_every_domain_has_examples_and_knows_them_again() -> None:
    groups = copy.groups()
    assert set(groups) == set(copy.DOMAINS) and all(len(each) >= 2 for each in groups.values())
    assert sum(map(len, groups.values())) == len(copy.EXAMPLES)
    for example in copy.EXAMPLES:
        assert copy.domain_of(f" {example.prompt.text} ") == example.prompt.domain
    assert copy.domain_of("my own words") == ""
