"""Backbones at work at once say what they would say in turn, and leave no thread and no thread count behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from made_models import make_backbone

from patchlab.engine import Lane, Sampling, stream
from patchlab.engine.workers import Workers
from patchlab.records import Delta, Prompt

CPU = torch.device("cpu")
PROMPTS = [Prompt("Why is the sky so wide?"), Prompt("hi"), Prompt("Go on: once", kind="continue")]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def told() -> list[tuple[Delta, ...]]:
    lanes = [Lane("base", make_backbone("llama")), Lane("reference", make_backbone("gpt2"))]
    return list(stream(lanes, PROMPTS, samples=2, sampling=Sampling(temperature=1.0, max_new_tokens=14, seed=3)))


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("backbone")]


def test_a_stream_of_two_backbones_is_the_same_in_one_thread_and_in_two(two_threads: None) -> None:
    together = told()
    torch.set_num_threads(1)
    assert together == told()
    assert len({delta.lane for step in together for delta in step}) == 2


@pytest.mark.parametrize("steps", [1, 3])
def test_a_stream_that_is_left_leaves_no_thread(two_threads: None, steps: int) -> None:
    lanes = [Lane("base", make_backbone("llama")), Lane("reference", make_backbone("gpt2"))]
    going = stream(lanes, PROMPTS, sampling=Sampling(max_new_tokens=14))
    for _ in range(steps):
        next(going)
    assert len(alive()) == 2
    going.close()  # type: ignore[attr-defined]
    assert not alive()


def test_each_works_on_its_share_and_the_others_keep_theirs(two_threads: None) -> None:
    workers = Workers([CPU, CPU])
    assert workers.each([torch.get_num_threads, torch.get_num_threads]) == [1, 1]
    seen: list[int] = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen == [2] and torch.get_num_threads() == 2
    workers.close()


def test_one_that_fails_is_told_when_the_others_have_ended(two_threads: None) -> None:
    ended: list[str] = []

    def fails() -> None:
        raise ValueError("broken")

    def slow() -> None:
        time.sleep(0.2)
        ended.append("slow")

    workers = Workers([CPU, CPU])
    with pytest.raises(ValueError, match="broken"):
        workers.each([fails, slow])
    assert ended == ["slow"]
    workers.close()


@pytest.mark.parametrize("devices", [[CPU], [CPU, torch.device("cuda")], [CPU, CPU, CPU]])
def test_where_threads_would_not_pay_the_caller_does_it_all(two_threads: None, devices: list[torch.device]) -> None:
    workers = Workers(devices)
    assert set(workers.each([threading.current_thread] * len(devices))) == {threading.current_thread()}
    workers.close()
