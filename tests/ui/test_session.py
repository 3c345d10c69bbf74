"""What a press of Run does, without a page: the views are the models' replies, at a steady pace, and close cleanly."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_encoder import tiny

from patchlab.engine import Lab, Sampling, Scheduler
from patchlab.errors import BusyError, ContextError, InputError, PatchLabError
from patchlab.records import Delta, Prompt
from patchlab.scoring.encoder import EncoderScorer, Head, features
from patchlab.scoring.table import Scorer, stride_of
from patchlab.ui import session
from patchlab.ui.session import RunRequest, View, moved, run, stack_of, token_steps

PROMPT = Prompt("The waiter ignored us for forty minutes. Honestly, this waiter", "continue")
SAMPLING = Sampling(max_new_tokens=6, seed=3)


def request(lab: Lab, prompt: Prompt = PROMPT, *, on: bool = True, samples: int = 1) -> RunRequest:
    names = [installed.manifest.name for installed in lab.planner.installed()] if on else []
    return RunRequest(prompt, stack_of(names, dict.fromkeys(names, 1.0)), SAMPLING, samples)


def last(views: Iterable[View]) -> View:
    *_, view = views
    return view


def test_the_last_view_is_what_the_models_say(lab: Lab, scorers: list[Scorer]) -> None:
    asked = request(lab, samples=2)
    view = last(run(lab, scorers, asked))
    said = lab.replies([PROMPT], stack=asked.stack, samples=2, sampling=SAMPLING)
    assert [lane.name for lane in view.lanes] == list(lab.lane_names) and not view.running
    assert [(lane.name, text.text.strip(), text.tokens, text.stop) for lane in view.lanes for text in lane.replies] == [
        (reply.lane, reply.text.strip(), reply.tokens, reply.stop) for reply in said]


def test_every_view_scores_exactly_the_text_it_shows(lab: Lab, scorers: list[Scorer]) -> None:
    ticks = itertools.count()
    for view in run(lab, scorers, request(lab), clock=lambda: float(next(ticks))):
        for text in (text for lane in view.lanes for text in lane.replies if text.text.strip()):
            for scorer in scorers:
                assert text.scores[scorer.name] == scorer.score([text.text], [PROMPT.text])[0]


def test_lines_grow_by_one_point_a_token(lab: Lab, scorers: list[Scorer]) -> None:
    view = last(run(lab, scorers, request(lab)))
    for lane in view.lanes:
        for scorer in scorers:
            points = [tokens for tokens, _ in lane.lines[scorer.name]]
            assert points == sorted(set(points)) and points[-1] == lane.replies[0].tokens
            assert lane.lines[scorer.name][-1][1] == lane.replies[0].scores[scorer.name].value


def test_updates_keep_to_their_pace(lab: Lab, scorers: list[Scorer]) -> None:
    still = list(run(lab, scorers, request(lab), clock=lambda: 0.0))
    assert [view.running for view in still] == [True, False]  # the first token at once, then the end
    slow = itertools.count()
    assert len(list(run(lab, scorers, request(lab), clock=lambda: float(next(slow))))) > len(still)


def test_closing_the_views_closes_the_models_stream(lab: Lab, scorers: list[Scorer],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    opened, write = [], session.stream

    def watched(*args: Any, **options: Any) -> Any:
        opened.append(write(*args, **options))
        return opened[-1]

    monkeypatch.setattr(session, "stream", watched)
    views = run(lab, scorers, request(lab))
    next(views)
    assert opened[0].gi_frame is not None
    views.close()
    assert opened[0].gi_frame is None and lab.scheduler.in_flight == 0


def test_a_run_that_is_stopped_ends_at_its_next_step(lab: Lab, scorers: list[Scorer]) -> None:
    asked = itertools.count()
    *_, view = run(lab, scorers, request(lab), stop=lambda: next(asked) > 2)
    assert not view.running
    ends = {(text.stop, text.tokens) for lane in view.lanes for text in lane.replies}
    assert {stop for stop, _ in ends} == {"cancelled"} and 1 <= max(tokens for _, tokens in ends) <= 3
    assert lab.scheduler.in_flight == 0


def test_a_run_that_waits_in_line_can_be_stopped(lab: Lab) -> None:
    small = Lab(lab.base, registry=lab.registry)
    small.scheduler = Scheduler(lab.base, rows=2)
    first, stopped = run(small, [], request(small)), threading.Event()
    next(first)  # takes both rows of the batch
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: list(run(small, [], request(small), stop=stopped.is_set)))
        stopped.set()
        (view,) = second.result(timeout=60)
    assert {reply.stop for lane in view.lanes for reply in lane.replies} == {"cancelled"}
    assert last(first).lanes[0].replies[0].tokens == SAMPLING.max_new_tokens


def test_a_full_line_is_one_sentence(lab: Lab) -> None:
    small = Lab(lab.base, registry=lab.registry)
    small.scheduler = Scheduler(lab.base, rows=2, waiting=1)
    small.scheduler.open([small.scheduler.request("base", 0, PROMPT)])
    with pytest.raises(BusyError, match="1 clients in line"):
        next(run(small, [], request(small)))


def test_several_deltas_of_one_row_are_as_many_steps() -> None:
    deltas = [Delta("base", 0, "a", 1), Delta("base", 0, "b", 2), Delta("patched", 0, "c", 1), Delta("base", 0, "d", 3)]
    assert [[delta.text for delta in step] for step in token_steps(deltas)] == [["a", "c"], ["b"], ["d"]]


def test_without_patches_the_patched_lane_is_the_base(lab: Lab, scorers: list[Scorer]) -> None:
    view = last(run(lab, scorers, request(lab, on=False)))
    texts = {lane.name: lane.replies[0].text for lane in view.lanes}
    assert texts["patched"] == texts["base"] and not view.patched


@pytest.mark.parametrize("words", ["", "  \n ", "word " * 10_000])
def test_what_cannot_be_run_is_one_clear_line(words: str, lab: Lab, scorers: list[Scorer]) -> None:
    with pytest.raises(InputError) as caught:
        next(run(lab, scorers, request(lab, Prompt(words))))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert isinstance(caught.value, ContextError) or "expected" in str(caught.value)


@pytest.mark.parametrize("words", ["🙂🙃", "שלום, מה שלומך?", "null\x00and\x1b[31m", "<|user|> </s> {{ x }}", "﷽" * 3])
def test_odd_prompts_run_or_are_refused_in_words(words: str, lab: Lab, scorers: list[Scorer]) -> None:
    try:
        view = last(run(lab, scorers, request(lab, Prompt(words))))
    except PatchLabError as error:
        assert "expected" in str(error)
    else:
        assert not view.running


def test_a_stack_is_made_of_the_ticked_patches_in_order() -> None:
    stack = stack_of(["b", "a", "c"], {"a": 0.5, "b": 2.0})
    assert str(stack) == "b:2,a:0.5" and stack.mode == "parallel"
    assert str(stack_of(["b", "a"], {"a": 0.5, "b": 2.0}, mode="sequential", shared=1.0)) == "b:1,a:1"
    assert not stack_of(["a"], {})


def test_moving_stops_at_the_ends() -> None:
    names = ["a", "b", "c"]
    assert moved(names, 1, -1) == ["b", "a", "c"] and moved(names, 1, 1) == ["a", "c", "b"]
    assert moved(names, 0, -1) == moved(names, 2, 1) == names == ["a", "b", "c"]


def test_a_slow_scorer_reads_a_growing_reply_every_few_tokens_and_its_end(lab: Lab) -> None:
    model, ticks = tiny(), itertools.count()
    width = features("toxicity-encoder", model, [["One."]])[0].shape[1]
    head = Head(np.ones(width, np.float32), np.zeros(1, np.float32))
    slow = EncoderScorer("toxicity-encoder", "tiny", 0.5, head, lambda: model)
    asked = RunRequest(PROMPT, stack_of([], {}), Sampling(max_new_tokens=11, seed=3))
    view = last(run(lab, [slow], asked, clock=lambda: float(next(ticks))))
    for lane in view.lanes:
        points = [tokens for tokens, _ in lane.lines["toxicity"]]
        steps = [later - before for before, later in itertools.pairwise(points)]
        assert points[-1] == lane.replies[0].tokens and all(step >= stride_of(slow) for step in steps[:-1])
        assert lane.replies[0].scores["toxicity"] == slow.score([lane.replies[0].text])[0]


def test_a_message_in_danger_is_known_before_anything_is_written(lab: Lab, scorers: list[Scorer]) -> None:
    asked = RunRequest(Prompt("I want to kill myself."), stack_of([], {}), Sampling(max_new_tokens=2))
    first = next(run(lab, scorers, asked))
    assert first.asked is not None and first.asked.label == "crisis"


def test_another_stack_is_written_in_the_patched_lane_only(lab: Lab, scorers: list[Scorer],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    before, written, write = last(run(lab, scorers, request(lab))), [], session.stream

    def watched(lanes: Any, *args: Any, **options: Any) -> Any:
        written.extend(lane.name for lane in lanes)
        return write(lanes, *args, **options)

    monkeypatch.setattr(session, "stream", watched)
    off = request(lab, on=False)
    after = last(run(lab, scorers, off, earlier=before))
    assert written == ["patched"] and [lane.name for lane in after.lanes] == list(lab.lane_names)
    assert after == last(run(lab, scorers, off)), "as if all lanes had been written again"
    assert before.whole and not replace(before, running=True).whole


@pytest.mark.parametrize(("domain", "label"), [("refusal", "harmful"), ("everyday", "harmless")])
def test_what_an_example_asks_for_is_known(domain: str, label: str) -> None:
    asked = session.asked_of(Prompt("Tell me.", domain=domain))
    assert asked is not None and asked.label == label
    assert session.asked_of(Prompt("Tell me", "continue", domain)) is None
