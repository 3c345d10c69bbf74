"""In a conversation patches stand right before the current turn: its history is the base's own, shared, and read once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from made_batches import MORE, assert_near, decoded, plans_of, prefix_of
from made_models import FAMILIES, full_forward, make_backbone, some_ids

from patchlab.engine import BARE, Sampling, Scheduler, StackPlan, compile_prefix
from patchlab.engine.anchors import anchors_of
from patchlab.engine.attention import keep_share, under
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.histories import History
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.engine.waiting_line import Job
from patchlab.models import Backbone, Encoded
from patchlab.records import Message, Prompt

SHORT = Sampling(temperature=1.0, max_new_tokens=6, seed=2)
LEARNED, OWN_ATTENTION = ("gpt2", "opt"), ("falcon",)
EARLIER = (Message("user", "bus"), Message("assistant", "late"))
AGAIN = (Message("user", "so"), Message("assistant", "walk"))


@pytest.fixture(params=[family for family in FAMILIES if family not in (*LEARNED, *OWN_ATTENTION)])
def anchoring(request: pytest.FixtureRequest) -> Backbone:
    return make_backbone(request.param)


def history_of(backbone: Backbone, ids: Sequence[int]) -> History:
    batch = Batch(backbone, [BatchRow(ids)], room=0)
    batch.prefill()
    return batch.history()


def mixed_rows(backbone: Backbone) -> list[BatchRow]:
    """Every kind of stack, in two conversations and in none."""
    long, short = (history_of(backbone, some_ids(count, seed=count)) for count in (19, 4))
    behind = [(long, 3), (None, 0), (short, 0), (long, 3), (short, 0), (None, 0), (long, 3), (short, 1)]
    return [BatchRow(some_ids(5 + k, seed=k), plan, history, frame)
            for k, (plan, (history, frame)) in enumerate(zip(plans_of(backbone), behind, strict=True))]


def test_slots_stand_before_the_current_turn_and_no_earlier_token_sees_them(anchoring: Backbone) -> None:
    """Behind more and fewer tokens than the patch has slots, so that these stand at positive and at negative positions."""
    prefixes = [prefix_of(anchoring, "a", 5), prefix_of(anchoring, "b", 9)]
    with torch.no_grad():
        plan = StackPlan.of(*((compile_prefix(anchoring, prefix), strength)
                              for prefix, strength in zip(prefixes, (1.5, 1.0), strict=True)))
    ids = some_ids(6, seed=2)
    for count in (3, 20):
        earlier = some_ids(count, seed=1)
        got = decoded(anchoring, [BatchRow(ids, plan, history_of(anchoring, earlier))])[:, 0]
        expected = full_forward(anchoring, [*ids, *MORE], [(prefixes[0], 1.5), (prefixes[1], 1.0)], history=earlier)
        assert_near(got, expected[len(earlier) + len(ids) - 1 - len(earlier):].detach(), atol=2e-5)


def test_a_conversations_row_is_the_same_alone_and_among_others(anchoring: Backbone) -> None:
    rows = mixed_rows(anchoring)
    together = decoded(anchoring, rows)
    for k, row in enumerate(rows):
        assert_near(together[:, k], decoded(anchoring, [row])[:, 0], atol=2e-5)


def test_rows_of_conversations_join_and_leave(anchoring: Backbone) -> None:
    rows = mixed_rows(anchoring)
    alone = [decoded(anchoring, [row])[:, 0] for row in rows]
    batch = Batch(anchoring, rows[:3], room=2)
    batch.prefill()
    got = batch.step([MORE[0]] * 3)
    for k in range(3):
        assert_near(got[k], alone[k][1], atol=2e-5)
    later = Batch(anchoring, rows[3:], room=4)
    while later.unread:  # in pieces
        later.read(2)
    batch.keep([0, 2])
    batch.join(later)
    going = [(0, 2), (2, 2), *((k, 1) for k in range(3, len(rows)))]
    for _ in range(4):
        got = batch.step([MORE[at - 1] for _, at in going])
        for place, (k, at) in enumerate(going):
            assert_near(got[place], alone[k][at], atol=2e-5)
        going = [(k, at + 1) for k, at in going]


def test_bare_rows_of_a_conversation_are_the_bases_own(backbone: Backbone) -> None:
    earlier, ids = some_ids(17, seed=5), some_ids(6, seed=6)
    if anchors_of(backbone).reason:
        return
    got = decoded(backbone, [BatchRow(ids, BARE, history_of(backbone, earlier))])[:, 0]
    assert_near(got, decoded(backbone, [BatchRow([*earlier, *ids])])[:, 0], atol=2e-5)


def test_likelihoods_are_those_of_decoding(anchoring: Backbone) -> None:
    for plan in plans_of(anchoring):
        earlier, ids = some_ids(17, seed=5), some_ids(6, seed=6)
        got = decoded(anchoring, [BatchRow(ids, plan, history_of(anchoring, earlier), 2)])[:, 0]
        texts = pad_texts(anchoring, [(Encoded([*earlier, *ids], 2, 17), [*MORE, 5]), (ids, MORE[:3]),
                                      (Encoded([*earlier[:4], *ids], 0, 4), MORE[:5])])
        logits = reply_logits(anchoring, texts, plan)
        expected = got.log_softmax(-1) if len(plan.rows) > 1 else got
        assert_near(logits[texts.rows == 0], expected, atol=3e-5)
        plain = pad_texts(anchoring, [(ids, MORE[:3])])
        assert_near(logits[texts.rows == 1], reply_logits(anchoring, plain, plan), atol=3e-5)


def test_a_law_is_the_same_in_decoding_and_in_likelihoods(anchoring: Backbone) -> None:
    earlier, ids, plan = some_ids(17, seed=5), some_ids(6, seed=6), plans_of(anchoring)[3]
    texts = pad_texts(anchoring, [(Encoded([*earlier, *ids], 2, 17), [*MORE, 5])])
    rows = [BatchRow(ids, plan, history_of(anchoring, earlier), 2)]
    plain = decoded(anchoring, rows)[:, 0]
    with under(keep_share):
        got = decoded(anchoring, rows)[:, 0]
        assert_near(reply_logits(anchoring, texts, plan), got, atol=3e-5)
    assert not torch.allclose(got, plain, atol=1e-2)


def test_gradients_reach_the_slots_and_not_the_history(llama: Backbone) -> None:
    prefix = prefix_of(llama, "a", 5).requires_grad_(True)
    texts = pad_texts(llama, [(Encoded(some_ids(20, seed=1), 0, 12), MORE)])
    found = []
    for checkpointing in (False, True):
        prefix.grad = None
        plan = StackPlan.of((compile_prefix(llama, prefix), 1.0))
        reply_logits(llama, texts, plan, checkpointing=checkpointing).square().sum().backward()
        assert prefix.grad is not None
        found.append(prefix.grad.clone())
    assert bool(found[0].abs().sum(1).gt(0).all())
    assert_near(found[1], found[0], atol=1e-3)


def taken(job: Job) -> str:
    return "".join(delta.text for step in iter(job.take, ()) for delta in step)


def test_a_history_is_read_once_and_shared_bit_for_bit(llama: Backbone) -> None:
    """Base and patched lanes, a toggle, and the next turn read nothing again that stands."""
    scheduler, plan = Scheduler(llama), plans_of(llama)[1]
    prompt = Prompt("now", earlier=EARLIER)
    encoded = llama.encode_turns(prompt)
    taken(scheduler.open([scheduler.request("base", 0, prompt, sampling=SHORT),
                          scheduler.request("patched", 0, prompt, plan, sampling=SHORT)]))
    first = scheduler.histories.longest(encoded.ids[:encoded.turn])
    assert first is not None and scheduler.histories.read == encoded.turn == len(first)
    alone = history_of(llama, first.ids)
    assert all(torch.equal(*pair) for pair in zip((*first.keys, *first.values), (*alone.keys, *alone.values), strict=True))

    taken(scheduler.open([scheduler.request("patched", 0, prompt, plans_of(llama)[3], sampling=SHORT)]))
    assert scheduler.histories.read == encoded.turn
    following = Prompt("ok", earlier=(*EARLIER, *AGAIN))
    longer = llama.encode_turns(following)
    taken(scheduler.open([scheduler.request("patched", 0, following, plan, sampling=SHORT)]))
    assert scheduler.histories.read == longer.turn  # the new exchange only
    assert_near(torch.stack(scheduler.histories.longest(longer.ids[:longer.turn]).keys),  # type: ignore[union-attr]
                torch.stack(history_of(llama, longer.ids[:longer.turn]).keys))


def test_lanes_of_one_conversation_share_the_memory_of_its_history(llama: Backbone) -> None:
    history = history_of(llama, some_ids(30, seed=3))
    batch = Batch(llama, [BatchRow([5, 6], plan, history) for plan in plans_of(llama)[:4]], room=3)
    batch.prefill()
    assert batch.past is not None
    for k, keys in enumerate(history.keys):
        assert batch.past.layer(k)[0].data_ptr() == keys.data_ptr()
    assert max(layer.block_keys.shape[2] for layer in batch.cache.layers) == batch.slots + 2 + 3  # type: ignore[attr-defined]


def test_replies_do_not_depend_on_how_a_history_was_read(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, in pieces beside other rows, or as the continuation of an earlier one."""
    plan, prompts = plans_of(llama)[1], [Prompt("a", earlier=EARLIER), Prompt("b", earlier=(*EARLIER, *AGAIN)), Prompt("c")]
    whole = []
    for prompt in prompts:
        scheduler = Scheduler(llama)
        whole.append(taken(scheduler.open([scheduler.request("patched", 0, prompt, plan, sampling=SHORT)])))
    monkeypatch.setattr("patchlab.engine.waiting_line.PIECE", 8)
    scheduler = Scheduler(llama)
    jobs = [scheduler.open([scheduler.request("patched", 0, prompt, plan, sampling=SHORT)]) for prompt in prompts]
    random.Random(0).shuffle(jobs)
    found: dict[int, str] = {id(job): "" for job in jobs}
    while any(found_now := [(job, job.take()) for job in jobs]) and any(step for _, step in found_now):
        for job, step in found_now:
            found[id(job)] += "".join(delta.text for delta in step)
    assert sorted(found.values()) == sorted(whole)


def test_families_that_cannot_anchor_stand_in_front_and_say_why() -> None:
    for family in (*LEARNED, *OWN_ATTENTION):
        backbone = make_backbone(family)
        reason = anchors_of(backbone).reason
        assert ("learned" in reason) == (family in LEARNED) and ("attention" in reason) == (family in OWN_ATTENTION)
        plan, prompt = plans_of(backbone)[1], Prompt("now", earlier=EARLIER)
        assert Scheduler(backbone).request("patched", 0, prompt, plan, sampling=SHORT).turn == 0


def test_the_old_placement_is_one_text_behind_the_slots(anchoring: Backbone) -> None:
    scheduler, prompt = Scheduler(anchoring), Prompt("now", earlier=EARLIER)
    on = plans_of(anchoring)[1].rows[0].parts
    front = StackPlan.of(*on, placement="front")
    turns = [scheduler.request("patched", 0, prompt, plan, sampling=SHORT).turn for plan in (front, StackPlan.of(*on))]
    assert turns[0] == 0 < turns[1]
    texts = pad_texts(anchoring, [(Encoded(some_ids(20, seed=1), 0, 12), MORE)])
    plain = pad_texts(anchoring, [(some_ids(20, seed=1), MORE)])
    assert torch.equal(reply_logits(anchoring, texts, front), reply_logits(anchoring, plain, front))
    assert not torch.allclose(reply_logits(anchoring, texts, StackPlan.of(*on)), reply_logits(anchoring, texts, front), atol=1e-3)
