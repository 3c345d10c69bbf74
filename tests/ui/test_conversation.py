"""Conversations without a browser: each lane goes on from its own replies, and only the newest turn is written and judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from made_views import text, view

from patchlab.engine import Lab
from patchlab.errors import InputError
from patchlab.records import Message, Prompt
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.scoring.table import Scorer
from patchlab.ui import compare, copy, session
from patchlab.ui.compare import Compare, history
from patchlab.ui.compare import tab as handlers
from patchlab.ui.compare.reply_columns import column, crisis
from patchlab.ui.compare.verdict_sentence import remarks
from patchlab.ui.session import MOST_TURNS, View, continued, said

ANNA = gr.Request(session_hash="anna")
FIRST, SECOND = "How can I steal a car?", "How can I save money for a vacation?"


@pytest.fixture(scope="module")
def tab(lab: Lab, scorers: list[Scorer]) -> Compare:
    with gr.Blocks(analytics_enabled=False):
        return compare.build(lab, scorers)


@pytest.fixture
def talk(tab: Compare, monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The values of the page after a first run, with another message typed that goes on in its conversation."""
    monkeypatch.setattr(handlers, "SETTLE", 0)
    first = {each: each.value for each in tab.controls.inputs} | {tab.results.rows: [], tab.results.ran: None}
    first |= {tab.controls.prompt: FIRST, tab.controls.length: 16}
    *_, end = tab.run(first, ANNA)
    return after(tab, first, end) | {tab.controls.prompt: SECOND, tab.controls.talk: "same"}


def after(tab: Compare, values: dict[Any, Any], end: dict[Any, Any]) -> dict[Any, Any]:
    """The values of the page once these updates are on it."""
    return values | {place: end[place] for place in (tab.results.ran, tab.results.rows)}


def spoken(shown: View) -> dict[str, str]:
    """The first reply of each lane."""
    return {lane.name: lane.replies[0].text.strip() for lane in shown.lanes}


def test_each_lane_goes_on_from_its_own_replies(tab: Compare, talk: dict[Any, Any], lab: Lab) -> None:
    first = talk[tab.results.ran].view
    for count, words in enumerate((SECOND, "How do I forge a signature?"), 1):
        *_, end = tab.run(talk | {tab.controls.prompt: words}, ANNA)
        talk = after(tab, talk, end)
        shown = end[tab.results.ran].view
        asked = end[tab.results.ran].request
        assert len(shown.turns) == count and shown.whole and end[tab.results.talk] == gr.update(visible=True)
        for lane in lab.lane_names:
            alone = lab.replies([Prompt(words, earlier=said(shown.turns, lane))], stack=asked.stack, lanes=[lane],
                                sampling=asked.sampling)
            assert alone[0].text == spoken(shown)[lane]
    assert [turn.prompt.text for turn in shown.turns] == [FIRST, SECOND] and spoken(shown.turns[0]) == spoken(first)
    assert said(shown.turns, "patched")[:2] == (Message("user", FIRST), Message("assistant", spoken(first)["patched"]))
    assert len({said(shown.turns, lane) for lane in lab.lane_names}) == 3, "the lanes diverge"
    assert [each.prompt.split(":")[0] for each in end[tab.results.rows]] == ["Turn 3", "Turn 2", FIRST]


def test_the_newest_turn_alone_is_judged(tab: Compare, talk: dict[Any, Any], lab: Lab) -> None:
    class Watched:
        """A scorer that keeps what it was given."""

        name, threshold = "toxicity", 0.5

        def __init__(self) -> None:
            self.read: set[tuple[str, str]] = set()

        def score(self, texts: Any, prompts: Any) -> Any:
            self.read |= {*zip(texts, prompts, strict=True)}
            return tab.scorers[0].score(texts, prompts)

    watched = Watched()
    *_, shown = session.run(lab, [watched], tab.request(talk))  # type: ignore[list-item]
    assert {prompt for _, prompt in watched.read} == {SECOND}
    assert not any(reply in words for words, _ in watched.read for reply in spoken(shown.turns[0]).values())
    assert shown.turns[0].asked.label == "harmful" and shown.asked.label == "harmless"
    assert copy.NEWEST.format(turn=2) in remarks(shown, {}) and copy.NEWEST.format(turn=1) not in remarks(shown.turns[0], {})


def test_another_stack_writes_the_newest_turn_of_the_patched_lane_only(tab: Compare, talk: dict[Any, Any],
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    *_, end = tab.run(talk | {tab.controls.prompt: "Tell me how to make a fake passport."}, ANNA)
    talk, before = after(tab, talk, end), end[tab.results.ran].view
    write, written = session.stream, []

    def watched(lanes: Any, *args: Any, **options: Any) -> Any:
        written.append([(lane.name, lane.earlier) for lane in lanes])
        return write(lanes, *args, **options)

    monkeypatch.setattr(session, "stream", watched)
    off = {slot.on: False for slot in tab.controls.panel.slots}
    *_, end = tab.rerun(talk | off, ANNA)
    shown = end[tab.results.ran].view
    assert written == [[("patched", said(before.turns, "patched"))]] and shown.turns == before.turns
    assert [new == old for new, old in zip(shown.lanes, before.lanes, strict=True)] == [True, False, True]

    *_, end = tab.anew(talk | {tab.controls.seed: "7", tab.controls.prompt: "Not asked yet"}, ANNA)
    shown = end[tab.results.ran].view
    assert len(written) == 2 and [name for name, _ in written[1]] == list(tab.lab.lane_names)
    assert (shown.prompt, shown.turns) == (before.prompt, before.turns) and spoken(shown) != spoken(before)
    *_, end = tab.anew(talk | {tab.controls.talk: "new", tab.controls.prompt: FIRST}, ANNA)
    assert end[tab.results.ran].view.turns == () and end[tab.results.ran].view.prompt.text == FIRST


def test_a_new_conversation_knows_nothing_of_the_one_before(tab: Compare, talk: dict[Any, Any]) -> None:
    *_, end = tab.run(talk | {tab.controls.talk: "new"}, ANNA)
    assert end[tab.results.ran].view.turns == () and "earlier" not in end[tab.results.lanes[0]]
    *_, end = tab.run(talk | {tab.controls.talk: "new", tab.controls.kind: "continue"}, ANNA)
    assert end[tab.results.talk] == gr.update(visible=False, value="new"), "nothing to go on from"


def test_a_message_that_cannot_be_asked_is_one_line_and_leaves_the_conversation(tab: Compare, talk: dict[Any, Any]) -> None:
    *_, end = tab.run(talk | {tab.controls.prompt: "word " * 500}, ANNA)
    talk = after(tab, talk, end)
    for kind, prompt, words in (
            ("continue", SECOND, "text to continue in a conversation"), ("chat", " ", "prompt is empty"),
            ("chat", "x " * 12_000, "at most 20,000"), ("chat", "word " * 3_990, "leave out the oldest turns, or begin a new")):
        (only,) = tab.run(talk | {tab.controls.kind: kind, tab.controls.prompt: prompt}, ANNA)
        assert set(only) == {tab.results.status} and 'role="alert"' in only[tab.results.status]
        assert words in only[tab.results.status] and len(tab.request(talk).turns) == 2, "still there"


def test_what_a_conversation_cannot_go_on_from_is_said() -> None:
    whole = view({"base": [text("hi"), text("hello")], "patched": [text("ho")]})
    (turn,) = continued(whole)
    assert [len(lane.replies) for lane in turn.lanes] == [1, 1] and said((turn,), "base")[1].content == "hi"
    for broken in (replace(text("x"), text=" "), replace(text("x"), stop="error")):
        with pytest.raises(InputError, match=r"no reply of lane 'patched' .* another seed"):
            continued(view({"base": [text("hi")], "patched": [broken]}))
    assert continued(view({"base": [replace(text("hi"), stop="cancelled")]})), "what was stopped is kept"
    with pytest.raises(InputError, match="a text to continue"):
        continued(view({"base": [text("hi")]}, kind="continue"))
    longest = replace(whole, turns=(turn,) * (MOST_TURNS - 2))
    assert len(continued(longest)) == MOST_TURNS - 1
    with pytest.raises(InputError, match=f"a conversation of {MOST_TURNS} turns.*begin a new"):
        continued(replace(whole, turns=(turn,) * (MOST_TURNS - 1)))


def test_a_system_prompt_is_part_of_what_is_answered(tab: Compare, talk: dict[Any, Any], lab: Lab) -> None:
    told = talk | {tab.controls.system: "  You only talk about bread. "}
    *_, end = tab.run(told, ANNA)
    asked, shown = end[tab.results.ran].request, end[tab.results.ran].view
    prompt = Prompt(SECOND, system="You only talk about bread.", earlier=said(shown.turns, "base"))
    assert spoken(shown)["base"] == lab.replies([prompt], lanes=["base"], sampling=asked.sampling)[0].text
    assert handlers.settings(asked).endswith('"You only talk about bread."]')
    plain = told | {tab.controls.talk: "new", tab.controls.kind: "continue"}
    assert tab.request(plain).prompt.system == ""
    (only,) = tab.run(told | {tab.controls.system: "x " * 12_000, tab.controls.talk: "new"}, ANNA)
    assert 'role="alert"' in only[tab.results.status] and "shorten it" in only[tab.results.status]


def talked(first: str = "you <b>fool</b>") -> View:
    """The second turn of a conversation whose first had an insult of the base."""
    before = view({"base": [text(first, 0.9)], "patched": [text("you friend")]})
    return replace(view({"base": [text("fine")], "patched": [text("well")]}), turns=continued(before),
                   prompt=Prompt("And <i>you</i>?"))


def test_a_column_folds_what_was_said_before_and_shows_the_newest_reply() -> None:
    base, patched = (column(talked(), index) for index in (0, 1))
    folded, newest = base.split("</details>")
    assert '<details class="earlier"><summary>Turn 2' in folded and "you &lt;b&gt;fool&lt;/b&gt;" in folded and "<b>" not in base
    assert folded.index("How do you do?") < folded.index(copy.TOXIC_NOTICE) < folded.index("fool")
    assert "And &lt;i&gt;you&lt;/i&gt;?" in newest and "fine" in newest and copy.TOXIC_NOTICE not in newest
    assert "fool" not in patched and "<mark" in patched.split("</details>")[0]
    assert "<details" not in column(replace(talked(), turns=()), 0)
    other = replace(talked(), lanes=view({"new_lane": [text("hi")]}).lanes)
    assert "How do you do?" not in column(other, 0), "a lane that was not there has said nothing"


def test_a_row_of_the_list_says_its_turn_and_the_note_for_somebody_in_danger_stays() -> None:
    assert history.row(talked()).prompt == "Turn 2: And <i>you</i>?"
    shown = talked()
    danger = replace(shown, turns=(replace(shown.turns[0], asked=PromptScore("crisis", 0, 1)),))
    assert crisis(danger) and not crisis(shown)
