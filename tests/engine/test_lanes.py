"""Streams: lanes, prompts and samples advance together, and no row's text depends on its company."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
import torch
from made_batches import asked, drained, joined, segment_of, text_alone, texts
from made_models import CONTEXT, make_backbone, some_ids

from patchlab.engine import Lane, Sampling, Scheduler, StackPlan, blend, finished, fixed, replies, stream
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.forward_rows import Part
from patchlab.errors import BusyError, ContextError, InputError
from patchlab.models import Backbone
from patchlab.records import Delta, Message, Prompt

PROMPTS = [Prompt("Why is the sky so wide?"), Prompt("hi"), Prompt("Go on: once", kind="continue"),
           Prompt("Tell me about ducks", system="Be kind.")]
WARM = Sampling(temperature=1.0, max_new_tokens=14, seed=3)
LONG = Sampling(temperature=1.0, max_new_tokens=60, seed=1)


def part_of(backbone: Backbone, length: int = 5, strength: float = 1.0) -> Part:
    return segment_of(backbone, "a", length), strength


def base_of(backbone: Backbone | Scheduler) -> Lane:
    return Lane("base", backbone if isinstance(backbone, Scheduler) else Scheduler(backbone))


def patched_of(backbone: Backbone | Scheduler, length: int = 5, strength: float = 1.0) -> Lane:
    scheduler = backbone if isinstance(backbone, Scheduler) else Scheduler(backbone)
    return Lane("patched", scheduler, fixed(StackPlan.of(part_of(scheduler.backbone, length, strength))))


def both_of(backbone: Backbone) -> list[Lane]:
    """Two lanes of one scheduler."""
    scheduler = Scheduler(backbone)
    return [base_of(scheduler), patched_of(scheduler)]


def test_samples_do_not_depend_on_the_batch_or_its_order(backbone: Backbone) -> None:
    lanes = both_of(backbone)
    together = texts(stream(lanes, PROMPTS, samples=2, sampling=WARM))
    turned = texts(stream(lanes[::-1], PROMPTS[::-1], samples=2, sampling=WARM))
    assert len(together) == 2 * len(PROMPTS) * 2
    for (lane, row), text in together.items():
        prompt, sample = divmod(row, 2)
        assert turned[lane, (len(PROMPTS) - 1 - prompt) * 2 + sample] == text
    alone = texts(stream(lanes[1:], PROMPTS[1:2], samples=1, sampling=WARM))
    assert alone == {("patched", 0): together["patched", 2]}
    assert len(set(together.values())) > len(together) / 2  # and they are not all one text


def test_lanes_share_their_noise(llama: Backbone) -> None:
    """A patched lane whose patch is off is the base lane, token for token; where it is on, only the patch differs."""
    scheduler = Scheduler(llama)
    off = [base_of(scheduler), patched_of(scheduler, strength=0.0)]
    deltas = [each for step in stream(off, PROMPTS, samples=2, sampling=WARM) for each in step]
    by_lane = [[(d.row, d.text, d.tokens, d.done, d.stop) for d in deltas if d.lane == lane]
               for lane in ("base", "patched")]
    assert by_lane[0] == by_lane[1]
    on = texts(stream(both_of(llama), PROMPTS, sampling=WARM))
    assert on["base", 0] != on["patched", 0]


def test_a_conversation_is_read_with_its_turns_and_lanes_share_its_noise(llama: Backbone) -> None:
    """The same last turn behind other turns is another prompt; a patch that is off changes nothing in it."""
    turns = (Message("user", "hello"), Message("assistant", "hi"))
    prompts = [Prompt("and now?"), Prompt("and now?", earlier=turns), Prompt("and now?", earlier=turns, system="Be kind.")]
    scheduler = Scheduler(llama)
    said = texts(stream([base_of(scheduler), patched_of(scheduler, strength=0.0)], prompts, sampling=WARM))
    assert [said["base", row] for row in range(3)] == [said["patched", row] for row in range(3)]
    assert len({*said.values()}) == 3
    first, *others = (scheduler.request("base", row, prompt, sampling=WARM).key for row, prompt in enumerate(prompts))
    assert first != others[0] == others[1]


def test_each_lane_reads_the_prompts_behind_turns_of_its_own(llama: Backbone) -> None:
    said = {"base": (Message("user", "hello"), Message("assistant", "hi")),
            "patched": (Message("user", "hello"), Message("assistant", "no"))}
    planned: list[Prompt] = []
    base, patched = both_of(llama)

    def plans(prompts: Sequence[Prompt]) -> Sequence[StackPlan]:
        planned.extend(prompts)
        return patched.plans(prompts)

    lanes = [replace(base, earlier=said["base"]), replace(patched, earlier=said["patched"], plans=plans)]
    prompts = [Prompt("and now?", system="Be kind."), Prompt("why?")]
    together = texts(stream(lanes, prompts, sampling=WARM))
    behind = {name: [replace(prompt, earlier=earlier) for prompt in prompts] for name, earlier in said.items()}
    assert planned == behind["patched"], "a gate reads what its lane reads"
    for lane in (base, patched):
        assert [together[lane.name, row] for row in range(2)] == [
            texts(stream([lane], [prompt], sampling=WARM))[lane.name, 0] for prompt in behind[lane.name]]
    with pytest.raises(InputError, match="before a text to continue"):
        stream(lanes, [Prompt("Go on: once", "continue")])


def test_every_row_is_told_in_order_until_it_is_done(llama: Backbone) -> None:
    lanes = both_of(llama)[::-1]
    seen: dict[tuple[str, int], Delta] = {}
    for number, step in enumerate(stream(lanes, PROMPTS, samples=2, sampling=WARM), start=1):
        assert [(d.lane, d.row) for d in step] == sorted(
            ((d.lane, d.row) for d in step), key=lambda each: (["patched", "base"].index(each[0]), each[1]))
        for delta in step:
            assert not ((delta.lane, delta.row) in seen and seen[delta.lane, delta.row].done)
            assert delta.tokens == (number - 1 if delta.stop == "end" else number)
            assert delta.done == (delta.stop is not None)
            seen[delta.lane, delta.row] = delta
    assert len(seen) == 16 and all(delta.done for delta in seen.values())


def test_rows_that_stop_leave_the_others_as_they_are(llama: Backbone) -> None:
    """Rows end at their own steps; each text is the one the row has alone."""
    prompts = [Prompt(f"number {k}") for k in range(8)]
    backbone = often_stopping()
    lane = patched_of(backbone)
    last: dict[int, Delta] = {}
    steps = list(stream([lane], prompts, sampling=LONG))
    for step in steps:
        last.update({delta.row: delta for delta in step})
    together = texts(steps)
    assert {delta.stop for delta in last.values()} == {"end"} and len({d.tokens for d in last.values()}) > 4
    for row, prompt in enumerate(prompts):
        assert texts(stream([lane], [prompt], sampling=LONG)) == {("patched", 0): together["patched", row]}


def often_stopping(stops: Iterable[int] = range(100, 130)) -> Backbone:
    """A backbone that takes many tokens for closing marks."""
    plain = make_backbone("qwen2")
    backbone = Backbone(plain.model, plain.tokenizer, name="often stopping")
    backbone.stops = frozenset(stops)
    return backbone


def test_two_backbones_with_other_tokenizers_stream_together() -> None:
    base, reference = make_backbone("llama"), make_backbone("mistral", words="byte_fallback")
    assert base.embeddings.shape[0] != reference.embeddings.shape[0]
    lanes = [*both_of(base), Lane("reference", Scheduler(reference))]
    steps = list(stream(lanes, PROMPTS, samples=2, sampling=WARM))
    assert {delta.lane for delta in steps[0]} == {"base", "patched", "reference"}  # all advance in one step
    together = texts(steps)
    for lane in lanes:
        alone = texts(stream([lane], PROMPTS, samples=2, sampling=WARM))
        assert alone == {key: text for key, text in together.items() if key[0] == lane.name}


@pytest.mark.parametrize("rows", [2, 8, 96])
def test_replies_are_streams_drained_however_many_run_at_once(llama: Backbone, rows: int) -> None:
    streamed = texts(stream(both_of(llama), PROMPTS, samples=2, sampling=WARM))
    scheduler = Scheduler(llama, rows=rows)
    found = replies([base_of(scheduler), patched_of(scheduler)], PROMPTS, samples=2, sampling=WARM)
    assert [(reply.lane, reply.row) for reply in found] == [(lane, row) for lane in ("base", "patched") for row in range(8)]
    assert {(r.lane, r.row): r.text for r in found} == {key: text.strip() for key, text in streamed.items()}
    assert all(r.prompt is PROMPTS[r.row // 2] and r.sample == r.row % 2 for r in found)


def test_a_reply_comes_as_soon_as_its_row_has_stopped() -> None:
    scheduler = Scheduler(often_stopping())
    lane, prompts = patched_of(scheduler), [Prompt(f"number {k}") for k in range(8)]
    order = [reply.row for reply in finished([lane], prompts, sampling=LONG)]
    assert sorted(order) == list(range(8)) != order
    coming = finished([lane], prompts, sampling=LONG)
    assert next(coming).row == order[0] and scheduler.in_flight > 0
    coming.close()  # type: ignore[attr-defined]
    assert scheduler.in_flight == 0


def test_a_stream_never_changes_a_weight(backbone: Backbone, weights: Callable[[Backbone], str]) -> None:
    before = weights(backbone)
    texts(stream(both_of(backbone), PROMPTS[:2], sampling=WARM))
    assert weights(backbone) == before
    assert not any(p.requires_grad or p.grad is not None for p in backbone.model.parameters())


Held = Callable[[], list["weakref.ref[torch.Tensor]"]]


# These look at what is alive at once, without the garbage collector: on a full device there is no time for it.
@pytest.mark.parametrize("steps", [1, 4])
def test_closing_a_stream_frees_its_memory(llama: Backbone, held: Held, steps: int) -> None:
    base, patched = both_of(llama)
    blended = Lane("blended", base.scheduler, fixed(StackPlan(blend([part_of(llama)]))))
    running = stream([base, patched, blended], PROMPTS, sampling=WARM)
    for _ in range(steps):
        next(running)
    blocks = held()
    assert len(blocks) == 4 and all(block() is not None for block in blocks)
    running.close()
    assert all(block() is None for block in blocks)
    assert held() == []


def test_a_stream_read_to_its_end_holds_nothing(llama: Backbone, held: Held) -> None:
    opened = stream([base_of(llama)], PROMPTS, sampling=WARM)
    next(opened)
    done = stream([base_of(llama)], PROMPTS, sampling=WARM)
    list(done)
    assert len(held()) == 4  # of the one still open
    opened.close()


def test_a_backbone_whose_rows_are_done_lets_go_while_others_run(held: Held) -> None:
    quick, slow = often_stopping(range(259)), make_backbone("llama")
    running = stream([base_of(quick), Lane("reference", Scheduler(slow))], PROMPTS[:1],
                     sampling=Sampling(temperature=1.0, max_new_tokens=40, seed=2))
    assert [(delta.lane, delta.done) for delta in next(running)] == [("base", True), ("reference", False)]
    assert len(held()) == 4  # two layers of the slow one
    running.close()


def test_rows_that_leave_give_their_memory_back_at_once(llama: Backbone, held: Held) -> None:
    batch = Batch(llama, [BatchRow(some_ids(6, seed=k), StackPlan.of(part_of(llama))) for k in range(4)], room=4)
    batch.prefill()
    blocks = held()
    assert len(blocks) == 4
    batch.keep([1, 3])
    assert all(block() is None for block in blocks)
    assert all(layer.block_keys.shape[0] == 2 for layer in batch.cache.layers)


def test_the_context_error_counts_all_turns(llama: Backbone) -> None:
    talk = Prompt("x" * 10, earlier=(Message("user", "y" * 20), Message("assistant", "z" * 30)), system="w")
    with pytest.raises(ContextError, match="for the prompt's 61 characters"):
        stream([base_of(llama)], [talk])


def test_the_context_error_counts_what_is_needed(llama: Backbone) -> None:
    scheduler = Scheduler(llama)
    lanes = [base_of(scheduler), patched_of(scheduler, length=20)]
    prompt = Prompt("x" * 40, kind="continue")  # one token a character
    assert len(list(stream(lanes, [prompt], sampling=Sampling(max_new_tokens=CONTEXT - 60)))) > 0
    with pytest.raises(ContextError) as caught:
        stream(lanes, [prompt], sampling=Sampling(max_new_tokens=CONTEXT - 59))  # before the first step
    assert str(caught.value).startswith(
        f"{CONTEXT + 1} tokens needed by lane 'patched' (40 for the prompt's 40 characters, {CONTEXT - 59} for the reply, "
        f"20 for the patch); "
        f"expected at most {CONTEXT}")


@pytest.mark.parametrize(("prompts", "samples"), [([], 1), (PROMPTS, 0)])
def test_nothing_asked_is_an_error_and_not_a_crash(llama: Backbone, prompts: list[Prompt], samples: int) -> None:
    with pytest.raises(InputError, match="one or more"):
        stream([base_of(llama)], prompts, samples=samples)


def test_lanes_that_cannot_be_told_apart_are_refused(llama: Backbone) -> None:
    with pytest.raises(InputError, match="lanes base, base; expected each name once"):
        stream([base_of(llama), base_of(llama)], PROMPTS)


def test_a_stream_that_finds_one_line_full_leaves_the_other(llama: Backbone) -> None:
    """Of two models the second is asked too much: nothing of the stream may be left with the first."""
    mine, full = Scheduler(llama), Scheduler(make_backbone("mistral"), waiting=1)
    waiting = asked(full, PROMPTS[1])
    with pytest.raises(BusyError):
        next(stream([base_of(mine), Lane("reference", full)], PROMPTS, sampling=WARM))
    assert not mine._line.jobs and joined(drained(waiting)) == text_alone(full.backbone, PROMPTS[1])


def test_a_stream_is_the_batch_sampled(llama: Backbone) -> None:
    """At temperature 0 the texts are the likeliest tokens of the logits that the laws are held on."""
    lane = patched_of(llama)
    streamed = texts(stream([lane], PROMPTS[:1], sampling=Sampling(temperature=0, max_new_tokens=10)))
    ids = llama.encode(PROMPTS[0])
    batch = Batch(llama, [BatchRow(ids, lane.plans(PROMPTS[:1])[0])], room=10)
    tokens = [int(batch.prefill().argmax())]
    while len(tokens) < 10 and tokens[-1] not in llama.stops:
        tokens.append(int(batch.step(tokens[-1:]).argmax()))
    kept = [token for token in tokens if token not in llama.stops]
    decode = llama.tokenizer.decode
    assert decode(ids) + streamed["patched", 0] == decode([*ids, *kept])
