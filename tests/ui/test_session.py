"""What a press of Run does, without a page: the views are the models' replies, at a steady pace, and close cleanly."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from patchlab.engine import Sampling, Trio
from patchlab.errors import ContextError, InputError, PatchLabError
from patchlab.records import Prompt
from patchlab.scoring.table import Scorer
from patchlab.ui.session import Request, View, moved, run, stack_of

PROMPT = Prompt("The waiter ignored us for forty minutes. Honestly, this waiter", "continue")
SAMPLING = Sampling(max_new_tokens=6, seed=3)


def request(trio: Trio, prompt: Prompt = PROMPT, *, on: bool = True, samples: int = 1) -> Request:
    names = [installed.manifest.name for installed in trio.installed()] if on else []
    return Request(prompt, stack_of(names, dict.fromkeys(names, 1.0)), SAMPLING, samples)


def last(views: Iterable[View]) -> View:
    *_, view = views
    return view


def test_the_last_view_is_what_the_models_say(trio: Trio, scorers: list[Scorer]) -> None:
    asked = request(trio, samples=2)
    view = last(run(trio, scorers, asked))
    said = trio.replies([PROMPT], stack=asked.stack, samples=2, sampling=SAMPLING)
    assert [lane.name for lane in view.lanes] == list(trio.lanes) and not view.running
    assert [(lane.name, text.text.strip(), text.tokens, text.stop) for lane in view.lanes for text in lane.texts] == [
        (reply.lane, reply.text.strip(), reply.tokens, reply.stop) for reply in said]


def test_every_view_scores_exactly_the_text_it_shows(trio: Trio, scorers: list[Scorer]) -> None:
    ticks = itertools.count()
    for view in run(trio, scorers, request(trio), clock=lambda: float(next(ticks))):
        for text in (text for lane in view.lanes for text in lane.texts if text.text.strip()):
            for scorer in scorers:
                assert text.scores[scorer.name] == scorer.score([text.text], [PROMPT.text])[0]


def test_lines_grow_by_one_point_a_token(trio: Trio, scorers: list[Scorer]) -> None:
    view = last(run(trio, scorers, request(trio)))
    for lane in view.lanes:
        for scorer in scorers:
            points = [tokens for tokens, _ in lane.lines[scorer.name]]
            assert points == sorted(set(points)) and points[-1] == lane.texts[0].tokens
            assert lane.lines[scorer.name][-1][1] == lane.texts[0].scores[scorer.name].value


def test_updates_keep_to_their_pace(trio: Trio, scorers: list[Scorer]) -> None:
    still = list(run(trio, scorers, request(trio), clock=lambda: 0.0))
    assert [view.running for view in still] == [True, False]  # the first token at once, then the end
    slow = itertools.count()
    assert len(list(run(trio, scorers, request(trio), clock=lambda: float(next(slow))))) > len(still)


def test_closing_the_views_closes_the_models_stream(trio: Trio, scorers: list[Scorer],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def watched(*args: object, **options: object) -> object:
        opened.append(Trio.stream(trio, *args, **options))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(trio, "stream", watched)
    views = run(trio, scorers, request(trio))
    next(views)
    assert opened[0].gi_frame is not None
    views.close()
    assert opened[0].gi_frame is None


def test_a_run_that_is_stopped_ends_at_its_next_step(trio: Trio, scorers: list[Scorer]) -> None:
    (view,) = run(trio, scorers, request(trio), stop=lambda: True)
    assert not view.running
    assert {(text.stop, text.tokens) for lane in view.lanes for text in lane.texts} == {("cancelled", 1)}


def test_without_patches_the_patched_lane_is_the_base(trio: Trio, scorers: list[Scorer]) -> None:
    view = last(run(trio, scorers, request(trio, on=False)))
    texts = {lane.name: lane.texts[0].text for lane in view.lanes}
    assert texts["patched"] == texts["base"] and not view.patched


@pytest.mark.parametrize("words", ["", "  \n ", "word " * 10_000])
def test_what_cannot_be_run_is_one_clear_line(words: str, trio: Trio, scorers: list[Scorer]) -> None:
    with pytest.raises(InputError) as caught:
        next(run(trio, scorers, request(trio, Prompt(words))))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert isinstance(caught.value, ContextError) or "expected" in str(caught.value)


@pytest.mark.parametrize("words", ["🙂🙃", "שלום, מה שלומך?", "null\x00and\x1b[31m", "<|user|> </s> {{ x }}", "﷽" * 3])
def test_odd_prompts_run_or_are_refused_in_words(words: str, trio: Trio, scorers: list[Scorer]) -> None:
    try:
        view = last(run(trio, scorers, request(trio, Prompt(words))))
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
