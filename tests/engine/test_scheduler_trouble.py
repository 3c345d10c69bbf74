"""What goes wrong in a shared batch reaches those whose rows it concerns, frees what they held, and the others go on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from made_batches import LONG, asked, drained, joined, plans_of, text_alone
from made_models import byte_level, make_backbone, make_model

from patchlab.engine import Lane, Sampling, Scheduler, replies, stream
from patchlab.engine.decode import Batch
from patchlab.engine.written_rows import Request
from patchlab.errors import ModelError
from patchlab.models import Backbone
from patchlab.records import Delta, Prompt

Held = Callable[[], list[Any]]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(batch: Batch, *_: object) -> None:
        raise error
    return fail


def goes_on(scheduler: Scheduler) -> bool:
    """Whether it says to the next client what it would say at any time."""
    prompt = Prompt("and again")
    return joined(drained(asked(scheduler, prompt))) == text_alone(scheduler.backbone, prompt)


def test_what_breaks_in_a_step_ends_the_rows_of_that_step(llama: Backbone, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is free although the error, with its traceback, is held still; who waits in line is none of them."""
    scheduler = Scheduler(llama, rows=2)
    one, other, third = (asked(scheduler, Prompt(f"row {k}")) for k in range(3))
    one.take()
    assert held() and scheduler.in_flight == 2
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory") as caught:
        patch.setattr(Batch, "step", raising(RuntimeError("out of memory")))
        drained(one)
    assert "raise error" in caught.value.__notes__[0] and {block().shape[0] for block in held()} == {1}
    with pytest.raises(RuntimeError, match="out of memory"):
        drained(other)
    assert joined(drained(third)) == text_alone(llama, Prompt("row 2")) and goes_on(scheduler)


def test_an_interrupt_in_a_step_frees_all_and_others_are_told(llama: Backbone, held: Held,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """A key pressed in one thread: the rows of others end too, and they hear why."""
    for place in ("step", "read", "keep"):
        scheduler = Scheduler(llama)
        one = asked(scheduler, Prompt("row 0"), Prompt("a"), sampling=LONG)
        other = asked(scheduler, Prompt("row 1"))
        if place != "read":
            one.take()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as caught:
            patch.setattr(Batch, place, raising(KeyboardInterrupt()))
            one.cancel(1) if place == "keep" else drained(one)
        assert caught.tb.tb_next and held() == [] and scheduler.in_flight == 0
        with pytest.raises(ModelError, match=r"interrupted \(KeyboardInterrupt\)"):
            drained(other)
        assert goes_on(scheduler)


def test_a_prompt_that_cannot_be_read_fails_only_its_own_client(llama: Backbone, held: Held,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that run, nor those whose prompts were read with it."""
    bad, read = llama.encode(Prompt("#", kind="continue"))[0], Batch.read

    def fails(batch: Batch, columns: int) -> torch.Tensor:
        if bool((batch.ids == bad).any()):
            raise RuntimeError("no such token")
        return read(batch, columns)

    scheduler, names = Scheduler(llama), ["running", "one", "#", "two", "three"]
    jobs = {"running": asked(scheduler, Prompt("running"))}
    deltas = [*jobs["running"].take()]
    for name in names[1:]:
        jobs[name] = asked(scheduler, Prompt(name), Prompt(f"{name} more"))
    monkeypatch.setattr(Batch, "read", fails)
    with pytest.raises(RuntimeError, match="no such token"):
        drained(jobs["#"])
    assert scheduler.in_flight > 0
    deltas += drained(jobs["running"])
    assert joined(deltas) == text_alone(llama, Prompt("running"))
    for name in ("one", "two", "three"):
        found = drained(jobs[name])
        for row, text in enumerate((name, f"{name} more")):
            assert joined(found, row) == text_alone(llama, Prompt(text))
    assert held() == []


def test_whoever_fails_at_the_next_request_is_told_and_its_rows_end(llama: Backbone, held: Held) -> None:
    scheduler = Scheduler(llama, rows=2)

    def requests() -> Iterator[Request]:
        yield scheduler.request("lane", 0, Prompt("row 0"), sampling=LONG)
        raise ValueError("no more prompts")

    job = scheduler.open(requests())
    other = asked(scheduler, Prompt("row 1"), sampling=Sampling(temperature=1.0, max_new_tokens=3))
    deltas: list[Delta] = []
    with pytest.raises(ValueError, match="no more prompts") as caught:
        while got := job.take():
            deltas += got
    assert 'ValueError("no more prompts")' in caught.value.__notes__[0] and not any(delta.done for delta in deltas)
    assert {block().shape[0] for block in held()} <= {1}  # the other's at most
    drained(other)
    assert held() == [] and goes_on(scheduler)


def dropped(scheduler: Scheduler, prompt: Prompt) -> None:
    """Begin a stream, and leave it where only a garbage collector finds it."""
    running = stream([Lane("lost", scheduler)], [prompt], sampling=LONG)
    next(running)
    circle: list[object] = [running]
    circle.append(circle)


@pytest.mark.parametrize("place", ["step", "read", "keep", "join"])
def test_a_stream_that_the_garbage_collector_closes_in_the_middle_of_a_change_does_no_harm(
        llama: Backbone, held: Held, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Whatever is being done with the batch then, by the very thread that collects."""
    scheduler, original, collected = Scheduler(llama), getattr(Batch, place), []

    def collecting(batch: Batch, *args: Any) -> Any:
        if not collected:
            collected.append(gc.collect())
        return original(batch, *args)

    gc.disable()
    try:
        job = asked(scheduler, Prompt("row 0"), Prompt("row 1"), Prompt("row 2"))
        deltas = [*job.take()]
        dropped(scheduler, Prompt("lost"))
        deltas += job.take()  # of the step that began the other
        assert scheduler.in_flight == 4
        monkeypatch.setattr(Batch, place, collecting)
        late = asked(scheduler, Prompt("late")) if place in ("read", "join") else None
        if place == "keep":
            job.cancel(1)
        else:
            deltas += job.take()
        assert collected and scheduler.in_flight == {"step": 3, "read": 4, "join": 4, "keep": 2}[place]
        deltas += drained(job)
    finally:
        gc.enable()
    assert [delta.row for delta in deltas if delta.done].count(1) == 1
    assert [joined(deltas, k) for k in (0, 2)] == [text_alone(llama, Prompt(f"row {k}")) for k in (0, 2)]
    if late:
        assert joined(drained(late)) == text_alone(llama, Prompt("late"))
    assert held() == [] and goes_on(scheduler)


def poisoned(letter: str = "z") -> Backbone:
    """A backbone to which one letter is not a number."""
    model = make_model("llama", vocabulary=len(byte_level()))
    with torch.no_grad():
        model.get_input_embeddings().weight[byte_level().convert_tokens_to_ids(letter)] = torch.nan
    return Backbone(model, byte_level(), name="poisoned")


def test_a_row_that_fails_is_told_and_its_neighbours_go_on() -> None:
    """A prompt that cannot be read fails at once, a token that cannot be read back at the step after it."""
    clean, backbone = make_backbone("llama"), poisoned()
    plan = plans_of(clean)[1]
    prompts = [Prompt("a zebra", kind="continue"), *(Prompt(f"row {k}", kind="continue") for k in range(30))]
    sampling = Sampling(temperature=1.0, max_new_tokens=40, seed=4)
    said = drained(asked(Scheduler(backbone, rows=9), *prompts, plan=plan, sampling=sampling))
    last = {delta.row: delta for delta in said if delta.done}
    assert last[0].stop == "error" and "not finite" in last[0].error and last[0].tokens == 0
    failed = [k for k in last if last[k].stop == "error"]
    assert 1 < len(failed) < len(last) == 31
    for k, prompt in enumerate(prompts):
        whole = text_alone(clean, prompt, plan, sampling)
        assert joined(said, k) == (whole if k not in failed else whole[:whole.find("z") + 1] if k else "")


def test_whole_replies_are_not_made_of_a_row_that_failed() -> None:
    lanes = [Lane("base", Scheduler(poisoned()))]
    prompts = [Prompt("row 1", kind="continue"), Prompt("a zebra", kind="continue")]
    stops = {d.row: d.stop for step in stream(lanes, prompts, sampling=Sampling(max_new_tokens=4)) for d in step if d.done}
    assert stops[1] == "error" and stops[0] != "error"
    with pytest.raises(ModelError, match=r"lane 'base' failed.*not finite"):
        replies(lanes, prompts, sampling=Sampling(max_new_tokens=4))
    assert lanes[0].scheduler.in_flight == 0
