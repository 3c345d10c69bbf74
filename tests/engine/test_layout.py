"""What a batch holds: in each row the slots of its own stack and no neighbour's, also after rows join and leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from made_batches import segment_of
from made_models import some_ids
from torch import Tensor

from patchlab.engine import StackPlan
from patchlab.engine.decode import Batch, Row
from patchlab.engine.forward_rows import Part
from patchlab.models import Backbone

LENGTHS = (5, 11, 3, 8)
ROOM = 12


def own_stacks(backbone: Backbone) -> list[Row]:
    """No patch, a patch of its own for each of four rows, two patches, and one patch under two names."""
    on: list[Part] = [(segment_of(backbone, f"own-{k}", length), 0.5 + k) for k, length in enumerate(LENGTHS)]
    stacks = [(), *([part] for part in on), (on[2], on[0]), (on[0], on[0])]
    return [Row(some_ids(length, seed=length), StackPlan.of(*stack))
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
    narrow, wide, other = (Row(ids, row.plan) for row in (rows[1], rows[2], rows[4]))

    def of(*some: Row) -> Tensor:
        batch = Batch(llama, some, room=4)
        return torch.stack([batch.prefill(), *(batch.step([token] * len(some)) for token in ids[:4])])[:, 0]

    assert torch.equal(of(narrow, wide, other), of(narrow, wide, wide))


def test_room_behind_a_patch_is_what_a_patch_that_weighs_nothing_takes(backbone: Backbone) -> None:
    """Text begins behind the part that reaches furthest; how far that is from the others is all the room does."""
    near, long = segment_of(backbone, "own", 5), segment_of(backbone, "long", 12)
    far, ids = replace(near, room=7), some_ids(6, seed=2)

    def after(*parts: Part) -> Tensor:
        batch = Batch(backbone, [Row(ids, StackPlan.of(*parts))], room=ROOM)
        return torch.cat([batch.prefill(), batch.step([ids[0]])])

    torch.testing.assert_close(after((far, 1.0)), after((near, 1.0), (long, 1e-12)), atol=1e-5, rtol=0)
    assert not torch.allclose(after((far, 1.0)), after((near, 1.0)), atol=1e-3)
