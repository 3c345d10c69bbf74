"""Who is next: clients in turn, within rows and bytes, in a line that is bounded."""

from __future__ import annotations

import random
import weakref
from typing import Any

import pytest
from made_batches import asked, drained, joined, plans_of, text_alone
from made_models import make_backbone
from torch import Tensor

from patchlab.engine import BARE, Sampling, Scheduler
from patchlab.engine.kv_cache import RowLayer
from patchlab.engine.waiting_line import Job
from patchlab.errors import BusyError, ContextError, InputError
from patchlab.models import Backbone
from patchlab.records import Prompt

BRIEF = Sampling(temperature=1.0, max_new_tokens=3, seed=1)


@pytest.mark.parametrize("clients", [1, 4])
def test_rows_join_in_order_and_as_soon_as_there_is_room(llama: Backbone, clients: int) -> None:
    """What does not fit yet is not overtaken, though what comes after it would fit."""
    plans = [BARE, BARE, plans_of(llama)[2], BARE]  # the third is a blend of two: three rows
    scheduler = Scheduler(llama, rows=4)
    requests = [scheduler.request("lane", k, Prompt("hi"), plan, sampling=BRIEF) for k, plan in enumerate(plans)]
    jobs = [scheduler.open(requests[k::clients]) for k in range(clients)]
    first: dict[int, int] = {}
    for step in range(8):
        scheduler._step()
        assert scheduler.in_flight <= 4
        for delta in (delta for job in jobs for delta in job.deltas):
            first.setdefault(delta.row, step)
    assert first[0] == first[1] == 0 < first[2] <= first[3] and scheduler.in_flight == 0


def test_clients_are_served_in_turn(llama: Backbone) -> None:
    """Whoever has one request does not wait for another's two hundred, and neither do the two after."""
    scheduler = Scheduler(llama, rows=4)
    many = asked(scheduler, *(Prompt(f"row {k}") for k in range(200)), sampling=BRIEF)
    done = sum(delta.done for _ in range(5) for delta in many.take())
    few = [asked(scheduler, Prompt(f"only {k}"), sampling=BRIEF) for k in range(3)]
    while done < 24 and not all(any(delta.done for delta in job.deltas) for job in few):
        done += sum(delta.done for delta in many.take())
    assert done < 24 and sum(delta.done for delta in drained(many)) == 200 - done
    assert [joined(drained(job)) for job in few] == [text_alone(llama, Prompt(f"only {k}"), sampling=BRIEF) for k in range(3)]


def test_the_line_is_bounded(llama: Backbone) -> None:
    scheduler = Scheduler(llama, rows=1, waiting=2)
    one, other = (asked(scheduler, Prompt("hi"), Prompt("ho")) for _ in range(2))
    with pytest.raises(BusyError, match="2 clients in line; expected fewer than 2"):
        asked(scheduler, Prompt("hi"))
    other.close()
    third = asked(scheduler, Prompt("hi"))
    with pytest.raises(BusyError):
        asked(scheduler, Prompt("hi"))
    drained(one)
    asked(scheduler, Prompt("hi"))
    assert joined(drained(third)) == text_alone(llama, Prompt("hi"))


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"waiting": 0}, {"memory": 0}, {"memory": -1}])
def test_a_limit_that_lets_nothing_through_is_refused(llama: Backbone, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected 1 or more"):
        Scheduler(llama, **wrong)  # type: ignore[arg-type]


class Blocks:
    """Counts the bytes of all blocks of keys and values that are alive, and the most there were."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = self.most = 0
        make = RowLayer._block

        def counted(layer: RowLayer, like: Tensor, which: str) -> Tensor:
            block = make(layer, like, which)
            self.now += block.nbytes
            self.most = max(self.most, self.now)
            weakref.finalize(block, self.gone, block.nbytes)
            return block

        patch.setattr(RowLayer, "_block", counted)

    def gone(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("seed", range(2))
def test_keys_and_values_never_take_more_than_is_allowed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Short and long prompts and replies that come and go at random, read in small pieces; every row says what it says alone."""
    monkeypatch.setattr("patchlab.engine.waiting_line.PIECE", 8)
    chance, llama = random.Random(seed), make_backbone("llama")
    blocks, plans, allowed = Blocks(monkeypatch), plans_of(llama), 100_000
    scheduler = Scheduler(llama, memory=allowed)
    jobs: list[tuple[Job, Prompt, Any, Sampling]] = []
    most, widest = 0, 0
    while len(jobs) < 30 or any(job.running or job in scheduler._line.jobs for job, *_ in jobs):
        if len(jobs) < 30 and chance.random() < 0.5:
            prompt, plan = Prompt("x" * chance.choice([1, 5, 40]), kind="continue"), chance.choice(plans)
            sampling = Sampling(temperature=1.0, max_new_tokens=chance.choice([2, 10, 40]), seed=len(jobs))
            jobs.append((asked(scheduler, prompt, plan=plan, sampling=sampling), prompt, plan, sampling))
        if jobs:
            scheduler._step()
        assert blocks.now <= allowed
        most, widest = max(most, blocks.now), max(widest, scheduler.in_flight)
    assert most > 0.5 * allowed and widest >= 4  # it is made use of
    assert blocks.now == 0 and blocks.most <= allowed * (1 + 1 / len(llama.layers))  # one layer is held twice while rows are laid
    for job, prompt, plan, sampling in jobs[::5]:
        assert joined(job.deltas) == text_alone(llama, prompt, plan, sampling)


def test_what_is_too_large_alone_is_refused_at_once(llama: Backbone) -> None:
    token = 2 * 2 * 2 * 8 * 4  # bytes of keys and values of a token: two layers, two heads of eight numbers in 32 bits
    prompt, plans = Prompt("x" * 20, kind="continue"), plans_of(llama)
    needed = 3 * (11 + 20 + 30) * token  # a blend of two: three rows, as wide as the longer patch
    sampling = Sampling(max_new_tokens=30)
    with pytest.raises(ContextError, match=f"{needed:,} bytes of .* needed by lane 'blend'; expected at most {needed - 1:,}"):
        Scheduler(llama, memory=needed - 1).request("blend", 0, prompt, plans[2], sampling=sampling)
    scheduler = Scheduler(llama, memory=needed)
    job = scheduler.open([scheduler.request("blend", 0, prompt, plans[2], sampling=sampling)])
    assert joined(drained(job)) == text_alone(llama, prompt, plans[2], sampling)
