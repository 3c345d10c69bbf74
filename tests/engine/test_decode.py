"""What a batch holds: in each row the slots of its own stack and no neighbour's, also after rows join and leave."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from made_batches import MORE, assert_near, decoded, plans_of, segment_of
from made_models import in_doubles, some_ids
from torch import Tensor

from patchlab.engine import StackPlan
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.forward_rows import Part
from patchlab.models import Backbone

LENGTHS = (5, 11, 3, 8)
ROOM = 12
LONGEST = 14


def own_stacks(backbone: Backbone) -> list[BatchRow]:
    """No patch, a patch of its own for each of four rows, two patches, and one patch under two names."""
    on: list[Part] = [(segment_of(backbone, f"own-{k}", length), 0.5 + k) for k, length in enumerate(LENGTHS)]
    stacks = [(), *([part] for part in on), (on[2], on[0]), (on[0], on[0])]
    return [BatchRow(some_ids(length, seed=length), StackPlan.of(*stack))
            for length, stack in zip((9, 4, 15, 7, 11, 3, 6), stacks, strict=True)]


def widths(batch: Batch) -> set[int]:
    layers: list[Any] = batch.cache.layers
    return {layer.block_keys.shape[2] for layer in layers} | {layer.block_values.shape[2] for layer in layers}


def check(got: Tensor, expected: Sequence[Tensor], step: int) -> None:
    for mine, alone in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, alone[step], atol=1e-5, rtol=0)


@pytest.mark.parametrize("static", [False, True])
def test_a_row_has_its_own_slots_only_and_the_logits_it_has_alone(backbone: Backbone, monkeypatch: pytest.MonkeyPatch,
                                                                  static: bool) -> None:
    """As wide as the widest row's stack, whatever stand in the others; wider and narrower as rows come and go.

    Also where a step's shapes stay the same, from the first step of a layout on.
    """
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *shape: self.new_full(shape, torch.nan))  # memory as found
    monkeypatch.setattr("patchlab.engine.decode.PATIENCE", 1)
    rows, said = own_stacks(backbone), some_ids(ROOM, seed=77)
    alone = []
    for row in rows:
        batch = Batch(backbone, [row], room=ROOM)
        alone.append(torch.cat([batch.prefill(), *(batch.step([token]) for token in said)]))

    monkeypatch.setattr(backbone, "static", static)
    first, second = Batch(backbone, rows[:4], room=ROOM), Batch(backbone, rows[4:], room=ROOM)
    for batch, slots, longest, expected in ((first, 11, 15, alone[:4]), (second, 10, 11, alone[4:])):
        check(batch.prefill(), expected, 0)
        assert widths(batch) == {slots + longest + ROOM}
        for step in range(3):
            check(batch.step([said[step]] * len(batch)), expected, step + 1)
    first.join(second)
    check(first.step([said[3]] * 7), alone, 4)
    assert widths(first) == {11 + 15 + ROOM}
    first.keep([0, 3, 5, 6])  # the widest goes, and with it its columns
    check(first.step([said[4]] * 4), [alone[k] for k in (0, 3, 5, 6)], 5)
    assert widths(first) == {10 + 9 + ROOM}
    first.keep([0, 1])
    for step in range(5, ROOM):
        check(first.step([said[step]] * 2), [alone[0], alone[3]], step + 1)
    assert widths(first) == {3 + 9 + ROOM}


def test_neighbours_do_not_reach_a_rows_bits(llama: Backbone) -> None:
    """Beside rows as long and as wide, whatever their patches are."""
    rows = own_stacks(llama)
    ids = some_ids(9, seed=1)
    narrow, wide, other = (BatchRow(ids, row.plan) for row in (rows[1], rows[2], rows[4]))

    def of(*some: BatchRow) -> Tensor:
        batch = Batch(llama, some, room=4)
        return torch.stack([batch.prefill(), *(batch.step([token] * len(some)) for token in ids[:4])])[:, 0]

    assert torch.equal(of(narrow, wide, other), of(narrow, wide, wide))


def test_room_behind_a_patch_is_what_a_patch_that_weighs_nothing_takes(backbone: Backbone) -> None:
    """Text begins behind the part that reaches furthest; how far that is from the others is all the room does."""
    near, long = segment_of(backbone, "own", 5), segment_of(backbone, "long", 12)
    far, ids = replace(near, room=7), some_ids(6, seed=2)

    def after(*parts: Part) -> Tensor:
        batch = Batch(backbone, [BatchRow(ids, StackPlan.of(*parts))], room=ROOM)
        return torch.cat([batch.prefill(), batch.step([ids[0]])])

    torch.testing.assert_close(after((far, 1.0)), after((near, 1.0), (long, 1e-12)), atol=1e-5, rtol=0)
    assert not torch.allclose(after((far, 1.0)), after((near, 1.0)), atol=1e-3)


def alone(backbone: Backbone, row: BatchRow, tokens: Sequence[int]) -> Tensor:
    """Logits [steps, V] of a row by itself."""
    return decoded(backbone, [row], tokens)[:, 0]


def test_rows_that_join_and_leave_at_random_have_the_logits_they_have_alone(
        backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also far beyond the window of sliding layers, with segments that come and go, and blocks that must grow."""
    # in 64 bits: far into a text a row's sums may be rounded otherwise in 32, and by more than the law allows
    backbone = in_doubles(backbone)
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *shape: self.new_full(shape, torch.nan))  # memory as found
    rng = random.Random(backbone.name)
    each = plans_of(backbone)
    rows = [BatchRow(some_ids(rng.randint(1, 20), seed=k), each[k % len(each)]) for k in range(12)]
    tokens = [some_ids(LONGEST, seed=100 + k) for k in range(len(rows))]
    expected = [alone(backbone, row, said) for row, said in zip(rows, tokens, strict=True)]
    batch: Batch | None = None
    going: dict[int, int] = {}  # row -> tokens it has read
    coming = list(range(len(rows)))

    def check(logits: Tensor, which: Sequence[int]) -> None:
        for got, k in zip(logits, which, strict=True):
            assert_near(got, expected[k][going[k]])

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


def test_prompts_read_in_pieces_have_the_logits_of_prompts_read_at_once(backbone: Backbone) -> None:
    """Far beyond the window of sliding layers, with left padding, and in the steps after."""
    rows = [BatchRow(some_ids(length, seed=length), plan)
            for length, plan in zip((33, 9, 21, 1, 30, 12, 5, 17), plans_of(backbone), strict=True)]
    whole = decoded(backbone, rows)
    for columns in (1, 4, 20):
        batch = Batch(backbone, rows, room=len(MORE))
        while batch.unread:
            logits = batch.read(columns)
        assert_near(logits, whole[0])
        for step, token in enumerate(MORE, start=1):
            assert_near(batch.step([token] * len(rows)), whole[step])
