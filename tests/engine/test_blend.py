"""Blends: every patch in a row of its own, their changes to the base's log-probabilities added; held on logits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from made_batches import MORE, assert_near, segment_of
from made_models import full_forward, make_patch, some_ids
from torch import Tensor

from patchlab.engine import BARE, StackPlan, blend, parallel
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.forward_rows import PLAUSIBLE, Part, blended
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import StackError
from patchlab.models import Backbone

LENGTHS = {"a": 5, "b": 11, "c": 3}


def parts_of(backbone: Backbone, *strengths: float) -> tuple[Part, ...]:
    return tuple((segment_of(backbone, name, length), strength)
                 for (name, length), strength in zip(LENGTHS.items(), strengths, strict=False))


def blend_of(parts: Sequence[Part], *, averaging: bool = False) -> StackPlan:
    return StackPlan(blend(parts, averaging=averaging))


def chances(backbone: Backbone, rows: Sequence[BatchRow], more: Sequence[int] = MORE) -> Tensor:
    """Log-probabilities [steps, B, V] of a batch that reads its prompts and then the same tokens in every row."""
    batch = Batch(backbone, rows, room=len(more))
    return torch.stack([batch.prefill(), *(batch.step([t] * len(rows)) for t in more)]).log_softmax(-1)


def test_any_order_gives_equal_chances(backbone: Backbone) -> None:
    ids = some_ids(10, seed=5)
    first, *others = (chances(backbone, [BatchRow(ids, blend_of(order))])
                      for order in itertools.permutations(parts_of(backbone, 1.0, 0.7, 2.0)))
    for other in others:
        assert_near(other, first)


def test_a_blend_of_one_at_strength_one_is_that_patch(backbone: Backbone) -> None:
    ids, (one,) = some_ids(9, seed=2), parts_of(backbone, 1.0)
    alone = chances(backbone, [BatchRow(ids, StackPlan.of(one))])
    assert_near(chances(backbone, [BatchRow(ids, blend_of((one,)))]), alone)
    assert not torch.allclose(alone, chances(backbone, [BatchRow(ids)]), atol=0.01)


def test_a_blend_of_none_is_the_base_to_the_bit(llama: Backbone) -> None:
    ids = some_ids(9, seed=3)
    base = chances(llama, [BatchRow(ids)])
    assert torch.equal(chances(llama, [BatchRow(ids, blend_of(()))]), base)
    assert torch.equal(chances(llama, [BatchRow(ids, blend_of(parts_of(llama, 0.0, 0.0)))]), base)


def mixed_rows(backbone: Backbone) -> list[BatchRow]:
    on = parts_of(backbone, 1.0, 0.5, 2.0)
    ids = some_ids(24, seed=1)
    plans = [BARE, blend_of(on), StackPlan.of(*on), blend_of(on[:1]), blend_of(on[1:]), StackPlan.of(*on[2:])]
    return [BatchRow(ids[-length:], plan) for length, plan in zip((24, 3, 17, 9, 12, 6), plans, strict=True)]


def test_a_blended_row_in_any_batch_is_the_row_alone(backbone: Backbone) -> None:
    rows = mixed_rows(backbone)
    together = chances(backbone, rows)
    for k, row in enumerate(rows):
        # forward rows here weigh up to six together, and with them what each is off by
        assert_near(together[:, k], chances(backbone, [row])[:, 0], atol=2e-5)
    assert_near(chances(backbone, rows[::-1]).flip(1), together)


def test_rows_that_leave_take_their_forward_rows_along(backbone: Backbone) -> None:
    rows = mixed_rows(backbone)
    whole = chances(backbone, rows)
    batch = Batch(backbone, rows, room=len(MORE))
    batch.prefill()
    going = list(range(len(rows)))
    for step, token in enumerate(MORE):
        leaving = {1: 3, 4: 0, 7: 4, 9: 5}.get(step)
        if leaving is not None:
            batch.keep([k for k, row in enumerate(going) if row != leaving])
            going.remove(leaving)
        assert_near(batch.step([token] * len(going)).log_softmax(-1), whole[step + 1][going])
    assert going == [1, 2] and len(batch.forward_rows) == 5


@torch.no_grad()
def test_changes_are_added_to_the_base_by_hand(backbone: Backbone) -> None:
    """Against forwards without bank or cache: likely tokens keep the ratios of the sum, no other gains over its best."""
    strengths = (1.0, 0.5, 1.5)
    ids = some_ids(12, seed=4)
    prefixes = [torch.tensor(make_patch(backbone, name, length=length).prefix) for name, length in LENGTHS.items()]
    base, *patched = (full_forward(backbone, ids, on).log_softmax(-1) for on in ([], *([(p, 1.0)] for p in prefixes)))
    total = base + torch.stack([s * (each - base) for s, each in zip(strengths, patched, strict=True)]).sum(0)
    got = chances(backbone, [BatchRow(ids[:1], blend_of(parts_of(backbone, *strengths)))], ids[1:])[:, 0]
    best = torch.stack([base, *patched])
    likely = (best >= best.amax(-1, keepdim=True) + math.log(PLAUSIBLE)).any(0)
    shift = torch.where(likely, got - total, torch.nan)
    assert_near(shift.nan_to_num(), shift.nanmean(-1, keepdim=True).expand_as(shift).where(likely, torch.tensor(0.0)))
    assert bool((got <= best.amax(0) + 1e-5)[~likely].all())
    assert_near(got.exp().sum(-1), torch.ones(len(ids)))


@torch.no_grad()
def test_given_replies_have_the_chances_of_decoding(backbone: Backbone) -> None:
    plan = blend_of(parts_of(backbone, 1.0, 0.5))
    pairs = [(some_ids(n, seed=n), some_ids(m, seed=n + 50)) for n, m in ((13, 4), (3, 9))]
    texts = pad_texts(backbone, pairs)
    logits = reply_logits(backbone, texts, plan)
    for k, (prompt, reply) in enumerate(pairs):
        assert_near(logits[texts.rows == k], chances(backbone, [BatchRow(prompt, plan)], reply[:-1])[:, 0])


def test_a_sum_does_not_leave_the_language() -> None:
    """Two patches that each raise 500 absurd tokens a hundredfold, and want different words: no absurd one may win."""
    wanted = [([0.1, 0.1, 0.8], 1e-6), ([0.9, 0.01, 0.01], 1e-4), ([0.01, 0.9, 0.01], 1e-4)]
    logits = torch.tensor([[*words, *[absurd] * 500] for words, absurd in wanted]).log()
    weights = torch.tensor([-1.0, 1.0, 1.0])[:, None]
    plain = (weights * logits.log_softmax(-1)).sum(0).softmax(-1)
    mine = blended(logits, weights, torch.tensor([False])).exp()
    assert float(plain[3:].sum()) > 0.5 and float(mine[3:].sum()) < 0.06  # as in the row that likes them best
    assert_near(mine.sum(), torch.tensor(1.0))
    assert_near(mine[0] / mine[1], plain[0] / plain[1])


def test_a_mean_weighs_changes_by_how_far_they_move_the_base() -> None:
    """Against the definition, one token; a strength over 1 counts as 1."""
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [4.0, 0.0, 0.0]])
    base, small, large = logits.log_softmax(-1)
    moved = [float((each.exp() * (each - base)).sum()) for each in (small, large)]
    shares = [0.5 * moved[0] / sum(moved), moved[1] / sum(moved)]
    expected = base + shares[0] * (small - base) + shares[1] * (large - base)
    weights = torch.tensor([-1.0, 0.5, 1.5])[:, None]
    assert_near(blended(logits, weights, torch.tensor([True])), expected.log_softmax(-1))


@torch.no_grad()
def test_in_a_mean_what_many_say_alike_is_said_once(llama: Backbone) -> None:
    ids, (one, other) = some_ids(10, seed=6), parts_of(llama, 1.0, 1.0)
    alone = chances(llama, [BatchRow(ids, StackPlan.of(one))])
    assert_near(chances(llama, [BatchRow(ids, blend_of((one,), averaging=True))]), alone)
    assert_near(chances(llama, [BatchRow(ids, blend_of((one,) * 5, averaging=True))]), alone)
    assert not torch.allclose(chances(llama, [BatchRow(ids, blend_of((one,) * 5))]), alone, atol=0.1)
    both = [chances(llama, [BatchRow(ids, blend_of(parts, averaging=True))]) for parts in ((one, other), (other, one))]
    assert_near(*both)


@torch.no_grad()
def test_rows_that_average_and_rows_that_add_share_a_batch(llama: Backbone) -> None:
    ids, on = some_ids(9, seed=8), parts_of(llama, 1.0, 1.0)
    rows = [BatchRow(ids, blend_of(on, averaging=averaging)) for averaging in (False, True, False)]
    together = chances(llama, rows)
    for k, row in enumerate(rows):
        assert_near(together[:, k], chances(llama, [row])[:, 0])
    assert not torch.allclose(together[:, 0], together[:, 1], atol=1e-3)
    texts = pad_texts(llama, [(ids, [*MORE[:4], 2])])
    assert_near(reply_logits(llama, texts, rows[1].plan), chances(llama, rows[1:2], MORE[:4])[:, 0])


@pytest.mark.parametrize("strength", [-0.5, math.nan, 4.5, math.inf])
def test_a_part_of_a_strength_out_of_range_is_refused(llama: Backbone, strength: float) -> None:
    [(segment, _)] = parts_of(llama, 1.0)
    for rows in (parallel, blend):
        with pytest.raises(StackError, match="a number from 0 to 4"):
            rows([(segment, strength)])
