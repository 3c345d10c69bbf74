"""Columns: verdicts in words, a notice before every toxic text, escaped text, any number of lanes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_views import score, text, view

from patchlab.scoring.crisis import ANSWER
from patchlab.scoring.prompt_judge import PromptLabel, PromptScore
from patchlab.ui import copy
from patchlab.ui.compare import ended
from patchlab.ui.reply_columns import column, crisis, empty, legend, tone, verdicts


@pytest.mark.parametrize(("scorer", "value", "words"), [
    ("toxicity", 0.93, "Toxic (toxicity 0.93)"), ("toxicity", 0.02, "Not toxic (toxicity 0.02)"),
    ("refusal", 0.98, "Refused (refusal 0.98)"), ("refusal", 0.04, "Answered (refusal 0.04)"),
])
def test_verdicts_are_words_with_their_number(scorer: str, value: float, words: str) -> None:
    assert copy.verdict(score(scorer, value)) == words


def test_the_verdict_of_the_prompts_domain_comes_first() -> None:
    reply = text("she sat down", 0.1, 0.9)
    first = {domain: verdicts(reply, domain)[0][0] for domain in ("toxicity", "refusal", "everyday", "bias", "")}
    assert first == {"toxicity": "Not toxic (toxicity 0.10)", "refusal": "Refused (refusal 0.90)",
                     "everyday": "Refused (refusal 0.90)", "bias": "Says “she”", "": "Not toxic (toxicity 0.10)"}
    for domain in first:
        assert {"Not toxic (toxicity 0.10)", "Refused (refusal 0.90)"} <= {words for words, _ in verdicts(reply, domain)}


def test_a_refusal_is_good_news_only_where_harm_was_asked_for() -> None:
    refused = score("refusal", 0.9)
    assert [tone(refused, domain) for domain in ("refusal", "everyday", "")] == ["good", "bad", "plain"]


def test_a_toxic_text_never_comes_without_its_notice() -> None:
    shown = view({"base": [text("you fool", 0.9)], "patched": [text("you friend", 0.1)]})
    base, patched = (column(shown, index, "toxicity") for index in (0, 1))
    assert base.index(copy.TOXIC_NOTICE) < base.index("you fool")
    assert copy.TOXIC_NOTICE not in patched


def test_changed_words_are_marked_in_the_patched_column_only() -> None:
    shown = view({"base": [text("you fool")], "patched": [text("you friend")], "reference": [text("dear guest")]})
    marks = ["<mark" in column(shown, index, "") for index in range(3)]
    assert marks == [False, True, False]


def test_without_a_patch_the_patched_column_says_that_it_equals_the_unpatched_one() -> None:
    off = view({"base": [text("hi")], "patched": [text("hi")]}, patched=False)
    on = view({"base": [text("hi")], "patched": [text("hi")]}, patched=True)
    assert copy.EQUALS_BASE in column(off, 1, "") and copy.EQUALS_BASE not in column(on, 1, "")


def test_a_reply_that_failed_says_so() -> None:
    shown = view({"base": [text("hi")], "patched": [replace(text("hi the"), stop="error")]})
    assert [", failed" in column(shown, index, "") for index in (0, 1)] == [False, True]
    assert ended(shown) == copy.FAILED


def test_model_text_is_escaped() -> None:
    shown = view({"base": [text("<script>alert(1)</script>")], "patched": [text("<script>alert(2)</script>")]})
    assert all("<script" not in column(shown, index, "") for index in (0, 1))


def test_a_fourth_lane_is_one_more_column() -> None:
    lanes = ["base", "patched", "reference", "fine_tuned"]
    shown = view({name: [text(f"reply of {name}")] for name in lanes})
    drawn = [column(shown, index, "") for index in range(4)]
    assert "Fine tuned" in drawn[3] and "reply of fine_tuned" in drawn[3]
    assert len({each.split("style=")[1][:30] for each in drawn}) == 4
    assert legend(lanes).count("<li") == 4


def test_each_reply_of_several_has_its_own_verdicts() -> None:
    shown = view({"base": [text("you fool", 0.9), text("good day", 0.1)]})
    drawn = column(shown, 0, "toxicity")
    assert "Reply 1" in drawn and "Reply 2" in drawn
    assert "Toxic (toxicity 0.90)" in drawn and "Not toxic (toxicity 0.10)" in drawn and drawn.count(copy.TOXIC_NOTICE) == 1


def test_a_column_is_announced_when_it_rests() -> None:
    writing = column(view({"base": [text("hi")]}, running=True), 0, "")
    resting = column(view({"base": [text("hi")]}), 0, "")
    assert 'aria-live="polite" aria-busy="true"' in writing and 'aria-live="polite" aria-busy="false"' in resting
    assert copy.IDLE in empty("base", 0)


def asked(label: PromptLabel) -> PromptScore:
    return PromptScore(label, 0.5, 0.5)


@pytest.mark.parametrize(("label", "refusal", "words"), [
    ("harmful", 0.9, ("Harmful request: refused", "good")), ("harmful", 0.1, ("Harmful request: answered", "bad")),
    ("harmless", 0.9, ("Harmless request: refused", "bad")), ("outside", 0.9, ("Outside what the judges know", "plain"))])
def test_one_verdict_takes_the_place_of_labels_where_the_prompt_is_judged(label: PromptLabel, refusal: float,
                                                                         words: tuple[str, str]) -> None:
    assert verdicts(text("a reply", 0.1, refusal), "", asked(label)) == [words]
    shown = replace(view({"base": [text("a reply", 0.1, refusal)]}), asked=asked(label))
    assert words[0] not in column(shown, 0, "")
    judged = column(replace(shown, verdicts=True), 0, "")
    assert words[0] in judged and "(refusal" not in judged


def test_a_crisis_gets_the_fixed_answer_whatever_the_models_say() -> None:
    shown = view({"base": [text("have a good time")]})
    assert crisis(shown) == crisis(replace(shown, asked=asked("harmful"))) == ""
    found = crisis(replace(shown, asked=asked("crisis")))
    assert "findahelpline.com" in found and found.count("<p>") == 1 and ANSWER.startswith("It sounds")
