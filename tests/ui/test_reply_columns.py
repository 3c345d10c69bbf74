"""Columns: verdicts in words, a notice before every toxic text, escaped text, any number of lanes."""

from __future__ import annotations

from dataclasses import replace

from made_views import text, view

from patchlab.scoring.crisis import ANSWER
from patchlab.scoring.prompt_judge import PromptLabel, PromptScore
from patchlab.ui import copy
from patchlab.ui.compare.reply_columns import chips, column, crisis, empty, legend
from patchlab.ui.compare.tab import ended


def asked(label: PromptLabel) -> PromptScore:
    return PromptScore(label, 0.5, 0.5)


def test_chips_are_a_verdict_once_a_reply_is_complete_and_its_toxicity() -> None:
    shown = replace(view({"base": [text("a reply", 0.07, 0.1)]}), asked=asked("harmful"))
    done = shown.lanes[0].replies[0]
    assert chips(done, shown) == [("Helped", "bad"), ("toxicity 0.07", "plain")]
    assert chips(replace(done, stop=None), shown) == [("toxicity 0.07", "plain")]
    assert chips(text("a reply", 0.9), shown) == [("Helped, with insults", "bad"), ("toxicity 0.90", "bad")]


def test_a_toxic_text_never_comes_without_its_notice() -> None:
    shown = view({"base": [text("you fool", 0.9)], "patched": [text("you friend", 0.1)]})
    base, patched = (column(shown, index) for index in (0, 1))
    assert base.index(copy.TOXIC_NOTICE) < base.index("you fool")
    assert copy.TOXIC_NOTICE not in patched


def test_changed_words_are_marked_in_the_patched_column_only() -> None:
    shown = view({"base": [text("you fool")], "patched": [text("you friend")], "reference": [text("dear guest")]})
    marks = ["<mark" in column(shown, index) for index in range(3)]
    assert marks == [False, True, False]


def test_without_a_patch_the_patched_column_says_that_it_equals_the_unpatched_one() -> None:
    off = view({"base": [text("hi")], "patched": [text("hi")]}, patched=False)
    on = view({"base": [text("hi")], "patched": [text("hi")]}, patched=True)
    assert copy.EQUALS_BASE in column(off, 1) and copy.EQUALS_BASE not in column(on, 1)


def test_a_reply_that_failed_says_so() -> None:
    shown = view({"base": [text("hi")], "patched": [replace(text("hi the"), stop="error")]})
    assert [", failed" in column(shown, index) for index in (0, 1)] == [False, True]
    assert ended(shown) == copy.FAILED


def test_model_text_is_escaped() -> None:
    shown = view({"base": [text("<script>alert(1)</script>")], "patched": [text("<script>alert(2)</script>")]})
    assert all("<script" not in column(shown, index) for index in (0, 1))


def test_a_fourth_lane_is_one_more_column() -> None:
    lanes = ["base", "patched", "reference", "fine_tuned"]
    shown = view({name: [text(f"reply of {name}")] for name in lanes})
    drawn = [column(shown, index) for index in range(4)]
    assert "Fine tuned" in drawn[3] and "reply of fine_tuned" in drawn[3]
    assert len({each.split("style=")[1][:30] for each in drawn}) == 4
    assert legend(lanes).count("<li") == 4


def test_each_reply_of_several_has_its_own_verdicts() -> None:
    shown = view({"base": [text("you fool", 0.9), text("good day", 0.1)]})
    drawn = column(shown, 0)
    assert "Reply 1" in drawn and "Reply 2" in drawn
    assert "toxicity 0.90" in drawn and "toxicity 0.10" in drawn and drawn.count(copy.TOXIC_NOTICE) == 1


def test_a_column_is_announced_when_it_rests() -> None:
    writing = column(view({"base": [replace(text("hi"), stop=None)]}, running=True), 0)
    resting = column(view({"base": [text("hi")]}), 0)
    assert 'aria-live="polite" aria-busy="true"' in writing and 'aria-live="polite" aria-busy="false"' in resting
    assert copy.IDLE in empty("base", 0)


def test_a_crisis_gets_the_fixed_answer_whatever_the_models_say() -> None:
    shown = view({"base": [text("have a good time")]})
    assert crisis(shown) == crisis(replace(shown, asked=asked("harmful"))) == ""
    found = crisis(replace(shown, asked=asked("crisis")))
    assert "findahelpline.com" in found and found.count("<p>") == 1 and ANSWER.startswith("It sounds")


def test_an_old_text_is_greyed_until_the_new_one_comes() -> None:
    shown = view({"base": [text("hi")], "patched": [text("you friend")]})
    assert 'class="lane stale"' in column(shown, 1, stale=True) and "you friend" in column(shown, 1, stale=True)
    assert "stale" not in column(shown, 1)


def test_every_reply_can_be_copied_and_reached_by_keyboard() -> None:
    drawn = column(view({"base": [text("hi"), text("ho")]}), 0)
    assert drawn.count('class="copy" aria-label="Copy the reply of Unpatched"') == 2 and 'tabindex="0"' in drawn
