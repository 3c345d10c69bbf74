"""The verdict in a sentence: what each lane did with what was asked, in which tone, and what the patches cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_views import text, view

from patchlab.engine import Lab
from patchlab.records import EMPTY, UNJUDGED, Prompt, Score
from patchlab.scoring.prompt_judge import PromptLabel, PromptScore
from patchlab.ui import copy
from patchlab.ui.compare.verdict_sentence import banner, clauses, cost, idle, outcome, remarks
from patchlab.ui.session import ReplyView, View

REFUSED, ANSWERED = text("I will not.", 0.1, 0.9), text("Do it so.", 0.1, 0.1)


def asked(label: PromptLabel, **lanes: ReplyView) -> View:
    """A view of a request of that kind."""
    return replace(view({name: [reply] for name, reply in lanes.items()}), asked=PromptScore(label, 0.5, 0.5))


def test_the_three_lanes_are_one_sentence_each_and_the_first_says_what_was_asked() -> None:
    found = clauses(asked("harmful", base=ANSWERED, patched=REFUSED, reference=REFUSED))
    assert [each.words for each in found] == [
        "Unpatched helped with a harmful request.", "Patched refused.", "Reference refused."]
    assert [each.tone for each in found] == ["bad", "good", "good"]


@pytest.mark.parametrize(("label", "reply", "short", "tone"), [
    ("harmful", ANSWERED, "Helped", "bad"), ("harmful", REFUSED, "Refused", "good"), ("harmless", ANSWERED, "Answered", "good"),
    ("harmless", REFUSED, "Refused needlessly", "bad"), ("unclear", ANSWERED, "Answered", "unclear"),
    ("unclear", REFUSED, "Refused", "unclear"), ("outside", REFUSED, "Refused", "unclear"),
    ("crisis", ANSWERED, "See the note above", "unclear"), ("harmless", text("You fool.", 0.9), "Answered, with insults", "bad")])
def test_an_outcome_has_the_tone_of_what_was_right(label: PromptLabel, reply: ReplyView, short: str, tone: str) -> None:
    found = outcome(reply, Prompt("Tell me."), PromptScore(label, 0.5, 0.5))
    assert (found.short, found.tone) == (short, tone)


def test_what_is_outside_of_the_judges_knowledge_is_said_so() -> None:
    unknown = asked("outside", base=ANSWERED)
    assert copy.OUTSIDE_NOTE in remarks(unknown, {})
    foreign = replace(ANSWERED, scores={"refusal": Score("refusal", 0.0, False, UNJUDGED)})
    assert copy.OUTSIDE in clauses(asked("harmful", base=foreign))[0].words
    silent = replace(ANSWERED, scores={"refusal": Score("refusal", 0.0, False, EMPTY)})
    assert [outcome(reply, Prompt("x"), PromptScore("harmful", 1, 0)).tone for reply in (foreign, silent)] == ["unclear"] * 2


def test_several_replies_are_counted_and_the_worst_gives_the_tone() -> None:
    shown = replace(asked("harmful", base=ANSWERED), lanes=view({"base": [ANSWERED, REFUSED, REFUSED]}).lanes)
    assert clauses(shown)[0].words == ("Unpatched helped with a harmful request in 1 of 3 replies and "
                                       "refused a harmful request in 2 of 3 replies.")
    assert clauses(shown)[0].tone == "bad"


@pytest.mark.parametrize(("domain", "reply", "words", "tone"), [
    ("toxicity", text("You fool.", 0.9), "wrote an insulting text", "bad"),
    ("toxicity", text("Good day."), "wrote no insults", "good"), ("", text("Good day."), "wrote no insults", "plain"),
    ("bias", text("she sat down"), "wrote “she”", "plain"), ("bias", text("it rained"), "wrote no pronoun", "plain"),
    ("", replace(text(""), text=" "), "wrote nothing", "unclear"), ("", replace(text("x"), stop="error"), "failed", "unclear")])
def test_a_continued_text_is_judged_by_its_own_words(domain: str, reply: ReplyView, words: str, tone: str) -> None:
    found = outcome(reply, Prompt("And then", "continue", domain), None)
    assert (found.verb, found.tone) == (words, tone)


def test_the_cost_is_the_one_that_the_manifest_of_a_patch_that_is_on_holds(lab: Lab) -> None:
    known = {each.manifest.name: each.manifest for each in lab.planner.installed()}
    shown = replace(view({"base": [text("hi")]}), patches=(("refusal", 2.0), ("bias", 3.0)))
    assert cost(shown, known) == "Measured cost: “Refuse harm” alone, at strength 2, refused 0.5% of 600 harmless requests."
    assert "Even pronouns" in cost(replace(shown, skipped_by_gate=("refusal",)), known)
    assert cost(replace(shown, patches=(("refusal", 0.0),)), known) == ""
    bare = {name: replace(manifest, evidence=()) for name, manifest in known.items()}
    assert cost(shown, bare) == "" == cost(shown, {})


def test_without_a_patch_and_behind_a_gate_the_banner_says_so() -> None:
    off = view({"base": [text("hi")]}, patched=False)
    assert copy.EQUALS_BASE in banner(off, {}, "[]")
    assert "gate decided: toxicity" in banner(replace(view({"base": [text("hi")]}), skipped_by_gate=("toxicity",)), {}, "[]")


def test_the_banner_escapes_waits_for_the_last_word_and_knows_its_settings() -> None:
    shown = asked("harmful", base=ANSWERED)
    assert copy.READING in banner(replace(shown, running=True), {}, "[]")
    assert 'data-ran="[&quot;&lt;i&gt;&quot;]"' in banner(shown, {}, '["<i>"]') and copy.RIBBON in banner(shown, {}, "[]")
    assert 'data-ran=""' in idle("Models.") and copy.LEAD in idle("Models.")
