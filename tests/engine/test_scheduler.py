"""The continuous batch: rows join, leave and are cancelled while others run, and each stays what it is alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from made_batches import asked, drained, joined, plans_of, text_alone
from made_models import make_backbone

from patchlab.engine import Sampling, Scheduler, StackPlan
from patchlab.engine.decode import Batch
from patchlab.engine.waiting_line import Job
from patchlab.errors import ContextError, InputError, StackError
from patchlab.models import Backbone
from patchlab.records import Prompt

Held = Callable[[], list[Any]]


@dataclass
class Client:
    """What one client was promised, and what it has got."""

    prompt: Prompt
    plan: StackPlan
    sampling: Sampling
    job: Job
    text: str = ""
    stops: list[str] = field(default_factory=list)

    def take(self) -> None:
        for delta in self.job.take():
            assert not self.stops, "nothing comes after the last delta"
            self.text += delta.text
            if delta.done:
                self.stops.append(delta.stop or "")


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_mixed_between_clients_that_come_and_go_at_random(family: str, seed: int) -> None:
    rng, backbone = random.Random(seed), make_backbone(family)
    backbone = Backbone(backbone.model, backbone.tokenizer, name="often stopping")
    backbone.stops = frozenset(range(100, 104))
    plans, scheduler, clients = plans_of(backbone), Scheduler(backbone, rows=6), []
    while len(clients) < 20 or not all(client.stops for client in clients):
        if len(clients) < 20 and rng.random() < 0.4:
            sampling = Sampling(temperature=rng.choice([0.0, 0.7, 1.0, 1.0]), max_new_tokens=rng.randint(1, 20),
                                seed=rng.randint(0, 3), top_p=rng.choice([1.0, 0.9]))
            prompt, plan = Prompt("x" * rng.randint(1, 12), kind="continue"), rng.choice(plans)
            clients.append(Client(prompt, plan, sampling, asked(scheduler, prompt, plan=plan, sampling=sampling)))
        if clients and rng.random() < 0.06:
            rng.choice(clients).job.cancel(0)
        if clients:
            rng.choice(clients).take()
        assert scheduler.in_flight <= 6
    stops = [stop for client in clients for stop in client.stops]
    assert len(stops) == len(clients) and {"end", "length", "cancelled"} >= set(stops) and len(set(stops)) > 1
    for client in clients:
        whole = text_alone(backbone, client.prompt, client.plan, client.sampling)
        assert client.text == whole if client.stops != ["cancelled"] else whole.startswith(client.text)


def test_a_scheduler_runs_for_ever_in_the_room_of_its_longest_rows(llama: Backbone) -> None:
    """Segments and columns that nobody uses any more are dropped."""
    plans, widest = plans_of(llama), 0
    scheduler = Scheduler(llama, rows=3)
    job = scheduler.open(
        scheduler.request("lane", k, Prompt("x" * (1 + k % 9), kind="continue"), plans[k % 2],
                          sampling=Sampling(temperature=1.0, max_new_tokens=3 + k % 5, seed=k)) for k in range(60))
    done = 0
    while deltas := job.take():
        done += sum(delta.done for delta in deltas)
        if scheduler._batch is not None:
            layers: list[Any] = scheduler._batch.cache.layers
            widest = max(widest, max(layer.block_keys.shape[2] for layer in layers))
    assert done == 60 and scheduler.in_flight == 0
    assert 0 < widest <= 5 + 9 + 2 * 7  # one segment, the longest prompt, and the room a row was given


def test_what_cannot_be_read_is_refused_before_it_waits(llama: Backbone) -> None:
    scheduler = Scheduler(llama)
    with pytest.raises(InputError, match="empty prompt"):
        scheduler.request("patched", 0, Prompt(" "))
    with pytest.raises(ContextError, match="lane 'patched'"):
        scheduler.request("patched", 0, Prompt("x" * 90, kind="continue"), sampling=Sampling(max_new_tokens=90))
    with pytest.raises(StackError, match="takes 3 rows; expected at most 2"):
        Scheduler(llama, rows=2).request("patched", 0, Prompt("hi"), plans_of(llama)[2])
    assert scheduler.open([]).take() == () and scheduler.in_flight == 0


def test_cancelling_frees_at_once_and_is_said_once(llama: Backbone, held: Held) -> None:
    """A row that runs, one in line, one that there is not, and all there are."""
    scheduler = Scheduler(llama, rows=2)
    job = asked(scheduler, *(Prompt(f"row {k}") for k in range(3)))
    job.take()
    blocks = held()
    job.cancel(0)
    assert blocks and all(block() is None for block in blocks)  # those of two rows
    assert {block().shape[0] for block in held()} == {1}
    job.cancel(2)  # still in line
    job.cancel(99)
    said = [*job.take(), *job.take()]
    assert sorted((delta.row, delta.done) for delta in said if delta.stop == "cancelled") == [(0, True), (2, True)]
    job.cancel(0)
    job.cancel(1)
    assert held() == [] and scheduler.in_flight == 0
    assert [(delta.row, delta.stop) for delta in drained(job)] == [(1, "cancelled")]


def test_a_row_whose_prompt_is_being_read_is_cancelled_at_once(llama: Backbone, held: Held,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchlab.engine.waiting_line.PIECE", 4)
    scheduler = Scheduler(llama)
    first = asked(scheduler, Prompt("go on"))
    first.take()
    alone, before = {id(block()) for block in held()}, scheduler.in_flight
    for end in (lambda job: job.cancel(0), lambda job: job.close()):
        job = asked(scheduler, Prompt("x" * 40, kind="continue"))
        first.take()
        assert scheduler.in_flight == before + 1 and len(held()) == 2 * len(alone)
        end(job)
        assert scheduler.in_flight == before and {id(block()) for block in held()} == alone
        assert [delta.stop for delta in drained(job)] in (["cancelled"], [])


def test_the_sample_is_the_noise_whatever_the_row(llama: Backbone) -> None:
    scheduler, prompt = Scheduler(llama), Prompt("tell me")
    warm = Sampling(temperature=1.0, max_new_tokens=10, seed=5)
    said = drained(scheduler.open([scheduler.request("lane", row, prompt, sampling=warm, sample=sample)
                                   for row, sample in enumerate((0, 1, 0))]))
    assert joined(said, 0) == joined(said, 2) != joined(said, 1)


def test_a_long_prompt_is_read_in_pieces_between_the_tokens_of_another_client(llama: Backbone,
                                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty tokens, four at a time: the row that runs does not wait for all of them."""
    monkeypatch.setattr("patchlab.engine.waiting_line.PIECE", 4)
    columns: list[int] = []
    read = Batch.read
    monkeypatch.setattr(Batch, "read", lambda self, count: (columns.append(count), read(self, count))[1])
    scheduler, long, first = Scheduler(llama), Prompt("x" * 40, kind="continue"), Prompt("go on")
    running = asked(scheduler, first)
    deltas = [*running.take()]
    other, steps = asked(scheduler, long), 0
    while not other.deltas:
        got = running.take()
        assert len(got) == 1
        deltas += got
        steps += 1
    assert steps == 10 and columns[1:] == [4] * 10 and columns[0] > 4  # who is alone reads at once
    assert joined([*deltas, *drained(running)]) == text_alone(llama, first)
    assert joined(drained(other)) == text_alone(llama, long)


def test_a_client_that_stops_taking_blocks_nobody(llama: Backbone) -> None:
    """Its rows go on with the steps of others, and what they say waits for it."""
    scheduler, prompts = Scheduler(llama, rows=4), [Prompt(f"row {k}") for k in range(3)]
    slow = asked(scheduler, *prompts)
    seen = [*slow.take()]
    for k in range(3):
        assert joined(drained(asked(scheduler, Prompt(f"other {k}")))) == text_alone(llama, Prompt(f"other {k}"))
    assert scheduler.in_flight == 0
    seen += slow.take()
    assert slow.take() == ()
    assert [joined(seen, k) for k in range(3)] == [text_alone(llama, prompt) for prompt in prompts]
