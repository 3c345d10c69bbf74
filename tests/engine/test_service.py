"""The continuous batch: rows join, leave and are cancelled while others run, and each stays what it is alone."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from made_models import byte_level, make_backbone, make_model, make_patch, some_ids
from torch import Tensor

from patchlab.engine import Bank, Blend, Lane, Sampling, Service, replies, stream
from patchlab.engine.decode import Batch, Row
from patchlab.engine.forward_rows import Part, Parts
from patchlab.engine.sampler import RowKey
from patchlab.engine.scheduler import Running
from patchlab.errors import BusyError, ContextError, InputError, ModelError, StackError
from patchlab.models import Backbone
from patchlab.records import Delta, Prompt

LONGEST = 14
LENGTHS = {"a": 5, "b": 11, "c": 3}


def stacks(backbone: Backbone) -> list[Parts]:
    bank = Bank(backbone)
    on: list[Part] = [(bank.segment([make_patch(backbone, name, length=length)]), strength)
                      for (name, length), strength in zip(LENGTHS.items(), (1.0, 0.5, 2.0), strict=True)]
    return [(), on[:1], Blend(tuple(on[:2])), on[1:], (), on[2:], Blend((on[2],)), on]


def alone(backbone: Backbone, row: Row, tokens: Sequence[int]) -> Tensor:
    """Logits [steps, V] of a row by itself."""
    batch = Batch(backbone, [row], room=LONGEST)
    return torch.stack([batch.prefill()[0], *(batch.step([token])[0] for token in tokens)])


@pytest.mark.parametrize("seed", range(2))
def test_rows_that_join_and_leave_at_random_have_the_logits_they_have_alone(
        backbone: Backbone, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also far beyond the window of sliding layers, with segments that come and go, and blocks that must grow."""
    # in 64 bits: far into a text a row's sums may be rounded otherwise in 32, and by more than the law allows
    backbone = Backbone(copy.deepcopy(backbone.model).double(), backbone.tokenizer, name=backbone.name)
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *shape: self.new_full(shape, torch.nan))  # memory as found
    rng = random.Random(seed)
    each = stacks(backbone)
    rows = [Row(some_ids(rng.randint(1, 20), seed=k), each[k % len(each)]) for k in range(12)]
    tokens = [some_ids(LONGEST, seed=100 + k) for k in range(len(rows))]
    expected = [alone(backbone, row, said) for row, said in zip(rows, tokens, strict=True)]
    batch: Batch | None = None
    going: dict[int, int] = {}  # row -> tokens it has read
    coming = list(range(len(rows)))

    def check(logits: Tensor, which: Sequence[int]) -> None:
        for got, k in zip(logits, which, strict=True):
            torch.testing.assert_close(got, expected[k][going[k]], atol=1e-5, rtol=0, check_dtype=False)

    while coming or going:
        if coming and (not going or rng.random() < 0.3):
            some = [coming.pop(0) for _ in range(min(len(coming), rng.randint(1, 3)))]
            joining = Batch(backbone, [rows[k] for k in some], room=rng.randint(1, 6))
            logits = joining.prefill()
            going |= dict.fromkeys(some, 0)
            check(logits, some)
            if batch is None:
                batch = joining
            else:
                batch.join(joining)
        assert batch is not None
        logits = batch.step([tokens[k][going[k]] for k in going])
        going = {k: read + 1 for k, read in going.items()}
        check(logits, list(going))
        stay = [at for at, k in enumerate(going) if going[k] < LONGEST and rng.random() < 0.93]
        if len(stay) < len(going):
            names = list(going)
            going = {names[at]: going[names[at]] for at in stay}
            batch = batch.keep(stay) or batch if stay else None


@dataclass
class Client:
    """What one ticket was promised, and what it has got."""

    prompt: Prompt
    parts: Parts
    sampling: Sampling
    text: str = ""
    stops: list[str] = field(default_factory=list)

    def take(self, delta: Delta) -> None:
        assert not self.stops, "nothing comes after the last delta"
        self.text += delta.text
        if delta.done:
            self.stops.append(delta.stop or "")


def text_alone(backbone: Backbone, client: Client) -> str:
    lane = Lane("alone", backbone, client.parts)
    return "".join(d.text for step in stream([lane], [client.prompt], sampling=client.sampling) for d in step)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_mixed_between_clients_that_come_and_go_at_random(family: str, seed: int) -> None:
    rng, backbone = random.Random(seed), make_backbone(family)
    backbone = Backbone(backbone.model, backbone.tokenizer, name="often stopping")
    backbone.stops = frozenset(range(100, 104))
    each = stacks(backbone)
    service = Service(backbone, rows=6)
    clients: dict[int, Client] = {}
    while len(clients) < 20 or service:
        if len(clients) < 20 and rng.random() < 0.4:
            sampling = Sampling(temperature=rng.choice([0.0, 0.7, 1.0, 1.0]), max_new_tokens=rng.randint(1, 20),
                                seed=rng.randint(0, 3), top_p=rng.choice([1.0, 0.9]))
            client = Client(Prompt("x" * rng.randint(1, 12), kind="continue"), rng.choice(each), sampling)
            ticket = service.submit(client.prompt, parts=client.parts, sampling=sampling)
            assert ticket not in clients
            clients[ticket] = client
        if clients and rng.random() < 0.06:
            service.cancel(rng.choice(list(clients)))
        for delta in service.step():
            clients[delta.row].take(delta)
        assert service._running.voices <= 6
    stops = [stop for client in clients.values() for stop in client.stops]
    assert len(stops) == len(clients) and {"end", "length", "cancelled"} >= set(stops) and len(set(stops)) > 1
    for client in clients.values():
        whole = text_alone(backbone, client)
        assert client.text == whole if client.stops != ["cancelled"] else whole.startswith(client.text)


def test_a_service_runs_for_ever_in_the_room_of_its_longest_rows(llama: Backbone) -> None:
    """Segments and columns that nobody uses any more are dropped."""
    each, widest = stacks(llama), 0
    service = Service(llama, rows=3)
    for k in range(60):
        service.submit(Prompt("x" * (1 + k % 9), kind="continue"), parts=each[k % 2],
                       sampling=Sampling(temperature=1.0, max_new_tokens=3 + k % 5, seed=k))
    while service:
        service.step()
        batch = service._running.batch
        if batch is not None:
            layers: list[Any] = batch.cache.layers
            widest = max(widest, max(layer.block_keys.shape[2] for layer in layers))
    assert widest <= 5 + 9 + 2 * 7  # one segment, the longest prompt, and the room a row was given
    assert service._running.batch is None


def test_rows_join_in_order_and_as_soon_as_there_is_room(llama: Backbone) -> None:
    service = Service(llama, rows=2)
    on = stacks(llama)[2]  # a blend of two: three rows
    with pytest.raises(StackError, match="takes 3 rows; expected at most 2"):
        service.submit(Prompt("hi"), parts=on)
    service = Service(llama, rows=4)
    brief = Sampling(temperature=1.0, max_new_tokens=3, seed=1)
    tickets = [service.submit(Prompt("hi"), parts=parts, sampling=brief) for parts in ((), (), on, ())]
    seen = []
    while service:
        seen.append([delta.row for delta in service.step()])
    first = {ticket: next(k for k, rows in enumerate(seen) if ticket in rows) for ticket in tickets}
    assert first[0] == first[1] == 0 and 0 < first[2] <= first[3]  # the last does not overtake though it would fit
    assert service.step() == ()


def test_the_line_is_bounded(llama: Backbone) -> None:
    service = Service(llama, rows=1, waiting=2)
    for _ in range(2):
        service.submit(Prompt("hi"))
    with pytest.raises(BusyError, match="2 requests in line; expected fewer than 2"):
        service.submit(Prompt("hi"))
    service.step()
    service.submit(Prompt("hi"))
    with pytest.raises(InputError, match="0 rows"):
        Service(llama, rows=0)


def test_what_cannot_be_read_is_refused_before_it_waits(llama: Backbone) -> None:
    service = Service(llama)
    with pytest.raises(InputError, match="empty prompt"):
        service.submit(Prompt(" "))
    with pytest.raises(ContextError, match="lane 'patched'"):
        service.submit(Prompt("x" * 90, kind="continue"), sampling=Sampling(max_new_tokens=90))
    assert not service


def test_cancelling_frees_at_once_and_is_said_once(llama: Backbone, held: Callable[[], list[Any]]) -> None:
    service = Service(llama, rows=2)
    long = Sampling(temperature=1.0, max_new_tokens=40, seed=2)
    tickets = [service.submit(Prompt(f"row {k}"), sampling=long) for k in range(3)]
    service.step()
    blocks = held()
    service.cancel(tickets[0])
    assert blocks and all(block() is None for block in blocks)  # those of two rows
    assert {block().shape[0] for block in held()} == {1}
    service.cancel(tickets[2])  # still in line
    service.cancel(99)
    said = [delta for delta in service.step() if delta.stop == "cancelled"]
    assert [(delta.row, delta.done) for delta in said] == [(0, True), (2, True)]
    service.cancel(tickets[0])
    service.cancel(tickets[1])
    assert held() == []
    assert [delta.stop for delta in service.step()] == ["cancelled"]
    assert not service


def test_a_service_that_breaks_or_is_closed_holds_nothing(llama: Backbone, held: Callable[[], list[Any]],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise RuntimeError("out of memory")

    for end in ("close", "break"):
        service = Service(llama)
        service.submit(Prompt("row 0"), sampling=Sampling(temperature=1.0, seed=2))
        service.step()
        assert held()
        if end == "close":
            service.close()
        else:
            with monkeypatch.context() as patch, pytest.raises(RuntimeError):
                patch.setattr(Batch, "step", out_of_memory)
                service.step()
        assert held() == [] and not service


def test_a_key_is_the_noise_whatever_the_ticket(llama: Backbone) -> None:
    service, warm = Service(llama), Sampling(temperature=1.0, max_new_tokens=10)
    prompt = Prompt("tell me")
    for sample in (0, 1, 0):
        service.submit(prompt, sampling=warm, key=RowKey.of(prompt, sample=sample, seed=5))
    texts = ["", "", ""]
    while service:
        for delta in service.step():
            texts[delta.row] += delta.text
    assert texts[0] == texts[2] != texts[1]


def poisoned(letter: str = "z") -> Backbone:
    """A backbone to which one letter is not a number."""
    model = make_model("llama", vocabulary=len(byte_level()))
    with torch.no_grad():
        model.get_input_embeddings().weight[byte_level().convert_tokens_to_ids(letter)] = torch.nan
    return Backbone(model, byte_level(), name="poisoned")


def test_a_row_that_fails_is_told_and_its_neighbours_go_on() -> None:
    """A prompt that cannot be read fails at once, a token that cannot be read back at the step after it."""
    clean, backbone = make_backbone("llama"), poisoned()
    parts = stacks(clean)[1]
    prompts = [Prompt("a zebra", kind="continue"), *(Prompt(f"row {k}", kind="continue") for k in range(30))]
    sampling = Sampling(temperature=1.0, max_new_tokens=40, seed=4)
    service, texts, last = Service(backbone, rows=9), dict.fromkeys(range(31), ""), {}
    for prompt in prompts:
        service.submit(prompt, parts=parts, sampling=sampling)
    while service:
        for delta in service.step():
            texts[delta.row] += delta.text
            last[delta.row] = delta
    assert last[0].stop == "error" and "not finite" in last[0].error and last[0].tokens == 0
    failed = [k for k in texts if last[k].stop == "error"]
    assert 1 < len(failed) < len(texts)
    for k, prompt in enumerate(prompts):
        whole = text_alone(clean, Client(prompt, parts, sampling))
        assert texts[k] == (whole if k not in failed else whole[:whole.find("z") + 1] if k else "")


def test_whole_replies_are_not_made_of_a_row_that_failed() -> None:
    lanes, prompts = [Lane("base", poisoned())], [Prompt("row 1", kind="continue"), Prompt("a zebra", kind="continue")]
    stops = {d.row: d.stop for step in stream(lanes, prompts, sampling=Sampling(max_new_tokens=4)) for d in step if d.done}
    assert stops[1] == "error" and stops[0] != "error"
    with pytest.raises(ModelError, match=r"lane 'base' failed.*not finite"):
        list(replies(lanes, prompts, sampling=Sampling(max_new_tokens=4)))


def test_nothing_runs_before_the_first_joins(llama: Backbone) -> None:
    running = Running(llama)
    assert (running.join([]), running.advance(), running.cancel(0), running.voices, len(running)) == ([], [], None, 0, 0)
