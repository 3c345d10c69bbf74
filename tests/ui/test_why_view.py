"""Why a reply changed: for every kind of run, in words and HTML, and in a real browser."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from made_visit import PALE, UNNAMED, Visit
from playwright.sync_api import Browser

from patchlab.engine import Lab, Sampling
from patchlab.errors import InputError
from patchlab.evaluation.reply_path import Alternatives, NextToken, ReplyPath, ReplyToken
from patchlab.patches import Stack
from patchlab.records import Prompt
from patchlab.scoring.table import Scorer
from patchlab.ui import copy, session
from patchlab.ui.compare import why_panel, why_view, why_words
from patchlab.ui.compare.kept_runs import Ran
from patchlab.ui.session import OtherStack, RunRequest, View

pytestmark = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once

ANNA = gr.Request(session_hash="anna")
ALL = "bias,refusal,toxicity"
HARM = next(each for each in copy.EXAMPLES if each.prompt.domain == "refusal")


def ran(lab: Lab, prompt: Prompt, stack: Stack | str = ALL, *, tokens: int = 24, temperature: float = 0.0, samples: int = 1,
        turns: tuple[View, ...] = (), scorers: list[Scorer] | None = None) -> Ran:
    """A run that ended."""
    stack = Stack.parse(stack) if isinstance(stack, str) else stack
    sampling = Sampling(temperature=temperature, max_new_tokens=tokens, seed=0, top_p=0.9)
    asked = RunRequest(prompt, stack, sampling, samples, turns)
    *_, view = session.run(lab, scorers or [], asked)
    return Ran(asked, view)


def unchanged(lab: Lab, done: Ran, lane: str = "patched") -> str:
    return why_panel.nothing_changed(why_panel.planned(lab, done, lane), lab.base)


def path_of(lab: Lab, done: Ran, lane: str) -> ReplyPath:
    return why_panel.planned(lab, done, lane).path(lab.base)


def token(text: str, on: float, off: float, *, ends: bool = False) -> ReplyToken:
    return ReplyToken(text, ends, on, off, 0.5)


def path(tokens: list[ReplyToken], other: int | None, fork: int | None, base: str = " Sure") -> ReplyPath:
    """A path whose base would have said `base` at both places."""
    places = sorted({other, fork} - {None})  # type: ignore[type-var]
    listed = tuple(Alternatives(int(place or 0), (NextToken(tokens[place or 0].text, False, 0.83),),
                                (NextToken(base, False, 0.91), NextToken("", True, 0.02))) for place in places)
    return ReplyPath(tuple(tokens), listed, other, fork)


@pytest.mark.parametrize("lane", ["patched", "reference"])
@pytest.mark.parametrize("stack", [Stack.parse(ALL), replace(Stack.parse(ALL), mode="sequential"),
                                   replace(Stack.parse("refusal:1,bias:0.5"), mode="blend")], ids=lambda stack: stack.mode)
def test_a_greedy_reply_is_everywhere_its_own_lanes_first_choice(lab: Lab, stack: Stack, lane: str) -> None:
    """What was decoded and what is explained come from the same distributions, in a first turn, in a later one, and in a text."""
    first = ran(lab, HARM.prompt, stack)
    for each in (first, ran(lab, Prompt("How can I forge a signature?"), stack, turns=session.continued(first.view)),
                 ran(lab, Prompt("How can I sleep better?", system="Answer briefly."), stack),
                 ran(lab, Prompt("The nurse looked at the clock and then", "continue"), stack)):
        found = path_of(lab, each, lane)
        written = next(one.replies[0] for one in each.view.lanes if one.name == lane)
        assert "".join(one.text for one in found.tokens) == written.text and not found.resplit
        for place in found.alternatives:
            chosen = found.tokens[place.place]
            assert (place.lane[0].text, place.lane[0].ends) == (chosen.text, chosen.ends)


def test_a_lane_is_read_in_its_own_conversation(lab: Lab) -> None:
    first = ran(lab, HARM.prompt)
    later = ran(lab, Prompt("How can I forge a signature?"), turns=session.continued(first.view))
    bases = later.view.turns[0].lanes[0]
    others = replace(later.view.turns[0], lanes=tuple(replace(each, replies=bases.replies) for each in later.view.turns[0].lanes))
    swapped = later._replace(view=replace(later.view, turns=(others,)))
    mine, theirs = (path_of(lab, each, "patched").tokens for each in (later, swapped))
    assert [each.base for each in mine] != pytest.approx([each.base for each in theirs], abs=0.01)
    assert why_words.TALK in why_view.explained(path_of(lab, later, "patched"), later.view, "patched")


def test_without_a_patch_and_behind_a_closed_gate_nothing_changed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for stack in (Stack(), Stack.parse("refusal:0")):
        bare = ran(lab, HARM.prompt, stack, temperature=0.8)
        assert unchanged(lab, bare) == why_words.NO_PATCH and not unchanged(lab, bare, "reference")
        assert all(abs(each.log_ratio) <= 1e-4 for each in path_of(lab, bare, "patched").tokens)
    monkeypatch.setattr(lab.planner, "_skipped", lambda gated, prompt, alone: ("refusal",))
    closed = ran(lab, HARM.prompt, "refusal")
    assert unchanged(lab, closed) == why_words.ALL_SKIPPED
    *_, said = why_panel.explaining(lab, [])(closed, "patched", ANNA)
    assert why_words.NOTHING in said and "token-strip" not in said
    partly = ran(lab, HARM.prompt, "refusal,bias")
    assert not unchanged(lab, partly)
    assert any("gate" in each for each in why_words.notes(path_of(lab, partly, "patched"), partly.view, "patched"))


def test_a_further_column_is_explained_with_its_own_stack(lab: Lab) -> None:
    asked = RunRequest(HARM.prompt, Stack(), Sampling(temperature=0.0, max_new_tokens=16), others=(
        OtherStack("patched 2", "Refuse harm", Stack.parse("refusal")), OtherStack("patched 3", "nothing", Stack())))
    *_, view = session.run(lab, [], asked)
    done, alone = Ran(asked, view), ran(lab, HARM.prompt, "refusal", tokens=16)
    assert path_of(lab, done, "patched 2") == path_of(lab, alone, "patched")
    assert [unchanged(lab, done, lane) for lane in ("patched", "patched 2", "patched 3")] == [
        why_words.NO_PATCH, "", why_words.NO_PATCH]
    offer = why_panel.offered_lanes(lab)
    assert [name for _, name in offer(done, "patched 2")["choices"]] == ["patched", "reference", "patched 2", "patched 3"]
    assert offer(done, "patched 2")["value"] == "patched 2" and offer(None, "patched 2")["value"] == "patched"


def test_cut_stopped_and_several_replies_are_told(lab: Lab) -> None:
    cut = ran(lab, HARM.prompt, tokens=8, samples=2, temperature=0.8)
    found = path_of(lab, cut, "patched")
    notes = why_words.notes(found, cut.view, "patched")
    assert why_words.CUT in notes and why_words.FIRST_OF.format(count=2) in notes and not found.tokens[-1].ends
    lanes = tuple(replace(each, replies=(replace(each.replies[0], stop="cancelled"),)) for each in cut.view.lanes)
    stopped = cut._replace(view=replace(cut.view, lanes=lanes))
    assert why_words.STOPPED in why_words.notes(path_of(lab, stopped, "patched"), stopped.view, "patched")


def test_other_patches_a_failed_reply_and_another_tokenizer_are_one_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ran(lab, HARM.prompt, "refusal", tokens=8)
    explain = why_panel.explaining(lab, ["ben"])
    assert why_words.NO_RUN in next(explain(None, "patched", ANNA))
    assert why_words.BUSY in next(explain(done, "patched", gr.Request(session_hash="ben")))
    going: list[str] = []
    reading = why_panel.explaining(lab, going)(done, "patched", ANNA)
    assert why_words.READING in next(reading)
    going.append("anna")
    assert why_words.BUSY in next(reading), "a run began while both models were reading"
    changed = done._replace(view=replace(done.view, patches=(("refusal", 0.123),)))
    lanes = tuple(replace(each, replies=(replace(each.replies[0], stop="error"),)) for each in done.view.lanes)
    failed = done._replace(view=replace(done.view, lanes=lanes))
    for each, words in ((changed, why_words.CHANGED[0]), (failed, why_words.FAILED_REPLY[0])):
        with pytest.raises(InputError, match=words):
            path_of(lab, each, "patched")
        *_, said = explain(each, "patched", ANNA)
        assert 'role="alert"' in said and words[1:] in said
    assert lab.reference is not None
    identity = lab.reference.identity
    monkeypatch.setattr(lab.reference, "identity", identity.__class__(**{**_fields(identity), "tokenizer_digest": "0" * 64}))
    *_, said = explain(done, "reference", ANNA)
    assert "different tokenizers" in said and 'role="alert"' in said
    *_, said = explain(done, "patched", ANNA)
    assert "token-strip" in said, "the patched lane is explained nevertheless"


def _fields(identity: Any) -> dict[str, Any]:
    return identity.model_dump() if hasattr(identity, "model_dump") else {
        name: getattr(identity, name) for name in type(identity).__dataclass_fields__}


def test_the_sentence_says_where_and_how() -> None:
    tokens = [token(" I", -0.19, -4.6), token(" un", -3.0, -3.0), token("able", 0.0, 0.0)]
    [said] = why_words.sentences(path(tokens, 0, 0), "Patched")
    assert said == ("The first word that the unpatched model would not have chosen is “I”, at the very beginning: the patched "
                    "model gave it a probability of 0.83, the unpatched model 0.010. The unpatched model would most likely have "
                    "said “Sure” (0.91).")
    first, most, second = why_words.sentences(path([tokens[1], tokens[2], tokens[0]], 0, 2), "Patched")
    assert "“I”, after “unable”" in first and "drawn by chance" in second and "“un”" in second
    assert most == "The two models differ most at the very beginning, where “un” was written (patched 0.050, unpatched 0.050)."
    assert [why_words.kind(tokens, k) for k in range(3)] == [why_words.WORD, why_words.PART, why_words.PART]
    [luck] = why_words.sentences(path(tokens, 1, None), "Patched")
    assert luck.startswith("No token") and "“un”" in luck
    [same] = why_words.sentences(path(tokens, None, None), "Reference")
    assert "the reference model wrote what" in same
    [ended] = why_words.sentences(path([tokens[0], token("", 0.0, -3.0, ends=True)], 1, 1), "Patched")
    assert "where it ends, after “I”" in ended


@pytest.mark.parametrize(("value", "words"), [(0.0001, "under 0.001"), (0.0123, "0.012"), (0.5, "0.50"), (0.994, "0.994"),
                                              (0.9999, "over 0.999"), (1.0, "over 0.999")])
def test_probabilities_have_the_digits_that_say_something(value: float, words: str) -> None:
    assert why_words.chance(value) == words


def test_a_reply_is_escaped_and_a_toxic_one_is_announced(lab: Lab, scorers: list[Scorer]) -> None:
    done = ran(lab, HARM.prompt, "refusal", tokens=8, scorers=scorers)
    base, patched, reference = (replace(each, replies=(replace(each.replies[0], scores={
        "toxicity": replace(each.replies[0].scores["toxicity"], flagged=True)}),)) for each in done.view.lanes)
    toxic = replace(done.view, lanes=(done.view.lanes[0], patched, reference))
    insulted = replace(done.view, lanes=(base, *done.view.lanes[1:]))
    made = path([token(" <b>", -0.1, -5.0), token("\n", -0.1, -0.1), token("&\u202e", -0.1, -0.1)], 0, 0, base="<i>")
    drawn = why_view.explained(made, toxic, "patched")
    assert copy.TOXIC_NOTICE in drawn and copy.TOXIC_NOTICE not in why_view.explained(made, done.view, "patched")
    told = why_view.explained(made, insulted, "patched")
    assert why_words.TOXIC_BASE in told and copy.TOXIC_NOTICE not in told and why_words.TOXIC_BASE not in drawn
    assert "<b>" not in drawn and "\u202e" not in drawn and "“&lt;i&gt;”" in drawn and why_words.BREAK in drawn
    strip = re.search(r'<p class="token-strip"[^>]*>(.*?)</p>', drawn, re.DOTALL)
    assert strip and html.unescape(re.sub(r"<i.*?</i>|<[^>]*>", "", strip[1])) == "<b>\n&\ufffd"


def explain(visit: Visit) -> Iterator[str]:
    """Open the fold and then choose the other lane; what is said each time."""
    visit.page.click("#why > button")
    visit.page.wait_for_selector("#why .token-strip")
    yield visit.page.inner_text("#why .why-said")
    visit.page.check("#why-lane input[value=reference]")
    visit.page.wait_for_selector("#why .why-said:has-text('the reference model')")
    yield visit.page.inner_text("#why .why-said")


def test_a_visitor_asks_why(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    visit.page.click("#why > button")
    visit.page.wait_for_function(f"document.querySelector('#why').innerText.includes({why_words.NO_RUN!r})")
    visit.page.click("#why > button")
    visit.example(HARM.label)
    patched, reference = explain(visit)
    assert "the patched model gave it" in patched and "the reference model gave it" in reference
    visit.page.check("#why-lane input[value=patched]")
    visit.page.wait_for_selector("#why .why-said:has-text('the patched model')")
    shown = visit.page.evaluate("document.querySelector('#why .token-strip').innerText.replace(/\\s+/g, ' ').trim()")
    assert shown.startswith(" ".join(visit.text("patched").split()))
    assert visit.page.locator("#why .token.fork").count() == 2 and visit.page.locator("#why .forks tbody tr").count() >= 2
    assert visit.page.evaluate("window.shifted") < 0.1
    assert visit.page.evaluate(UNNAMED) == [] and visit.page.evaluate(PALE) == []
    visit.shot("why")
    with visit.ending():
        visit.page.locator(".patch-slot input[type=checkbox]").first.click()
    assert visit.page.locator("#why .token-strip").count() == 0, "other replies have no explanation yet"
    visit.page.click("#explain")
    visit.page.wait_for_selector("#why .token-strip")
    visit.left(address)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light"), (390, "dark")])
def test_an_explanation_fits_every_width_and_theme(browser: Browser, address: str, width: int, scheme: str) -> None:
    visit = Visit(browser, address, width=width, scheme=scheme)
    visit.example(HARM.label)
    before = visit.page.evaluate("window.shifted")
    next(explain(visit))
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.page.evaluate(PALE) == [] and visit.page.evaluate("window.shifted") - before < 0.1
    visit.page.click("#why details summary")
    visit.shot(f"why-{width}-{scheme}")
    visit.left(address)
