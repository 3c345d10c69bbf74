"""Behind a history slots have the proportion to the current turn, and under a law the share of attention, of a single turn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from patchlab.engine.attention import Attention, keep_share, under
from patchlab.engine.histories import History, Past
from patchlab.engine.masks import smallest

ROWS, HEADS, SHARED, QUERIES, WIDTH, SLOTS, TURN, BEHIND, FRAME = 3, 4, 2, 5, 8, 6, 7, 11, 2


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def share_of(attention: Attention, keys: Tensor, query: Tensor, mask: Tensor, columns: slice, **options: object) -> Tensor:
    """The attention that some columns of [history, slots, turn] get: values are 1 there and 0 elsewhere."""
    total = mask.shape[-1]
    values = torch.zeros(total)
    values[columns] = 1.0
    behind = attention.past.length
    attention.past._stacked = {0: (attention.past.layer(0)[0], values[:behind].expand(1, SHARED, WIDTH, -1).mT)}
    own = values[behind:].expand(ROWS, SHARED, WIDTH, -1).mT
    return attention(0, query, keys, own, mask, scaling=0.3, **options)[..., 0]  # type: ignore[arg-type]


def masked(behind: int, *, window: int | None) -> Tensor:
    """Slots at different strengths, a causal turn, and a window that text leaves."""
    mask = torch.zeros(ROWS, 1, QUERIES, behind + SLOTS + TURN)
    mask[..., behind:behind + SLOTS] = torch.linspace(0.5, 2, SLOTS).log()
    place = torch.arange(QUERIES)[:, None] + TURN - QUERIES
    mask[..., behind + SLOTS:].masked_fill_(torch.arange(TURN) > place, smallest(torch.float32))
    if window:
        distance = place + BEHIND - torch.arange(behind)
        mask[..., :behind].masked_fill_(distance >= window, smallest(torch.float32))
    return mask


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("window", [None, 9])
def test_behind_a_history_as_without_it(softcap: float | None, sinks: bool, window: int | None) -> None:
    """In every head and for every query: the proportion without a law, the share under `keep_share`."""
    query, keys = drawn(ROWS, HEADS, QUERIES, WIDTH, seed=0), drawn(ROWS, SHARED, SLOTS + TURN, WIDTH, seed=1)
    old, value = drawn(SHARED, BEHIND, WIDTH, seed=2), torch.zeros(SHARED, BEHIND, WIDTH)
    history = History(tuple(range(BEHIND)), (old,), (value,))
    options = {"softcap": softcap, "sinks": drawn(HEADS, seed=3) if sinks else None}
    plain = Attention(Past([history] * ROWS, [FRAME] * ROWS, query.device), SLOTS)
    with under(keep_share):
        kept = Attention(plain.past, SLOTS)
    mask = masked(BEHIND, window=window)
    slots, turn = slice(BEHIND, BEHIND + SLOTS), slice(BEHIND + SLOTS, BEHIND + SLOTS + TURN)
    got = share_of(kept, keys, query, mask, slots, **options)
    # without the exchanges: the frame alone stands before the turn
    frame = Attention(Past([history.first(FRAME)] * ROWS, [FRAME] * ROWS, query.device), SLOTS)
    alone = mask[..., [*range(FRAME), *range(BEHIND, BEHIND + SLOTS + TURN)]]
    expected = share_of(frame, keys, query, alone, slice(FRAME, FRAME + SLOTS), **options)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    fading = share_of(plain, keys, query, mask, slots, **options)
    assert (fading < got - 0.01).any()
    proportion = expected / share_of(frame, keys, query, alone, slice(FRAME + SLOTS, None), **options)
    torch.testing.assert_close(fading / share_of(plain, keys, query, mask, turn, **options), proportion, atol=1e-4, rtol=1e-4)


def test_text_shares_what_the_slots_leave_as_without_them() -> None:
    """Among themselves the keys of text keep their proportions."""
    query, keys = drawn(ROWS, HEADS, QUERIES, WIDTH, seed=0), drawn(ROWS, SHARED, SLOTS + TURN, WIDTH, seed=1)
    history = History(tuple(range(BEHIND)), (drawn(SHARED, BEHIND, WIDTH, seed=2),), (torch.zeros(SHARED, BEHIND, WIDTH),))
    attention = Attention(Past([history] * ROWS, [0] * ROWS, query.device), SLOTS)
    on, off = masked(BEHIND, window=None), masked(BEHIND, window=None)
    off[..., BEHIND:BEHIND + SLOTS] = smallest(torch.float32)
    first, last = slice(0, BEHIND), slice(BEHIND + SLOTS, BEHIND + SLOTS + TURN)
    both = [[share_of(attention, keys, query, mask, columns) for columns in (first, last)] for mask in (on, off)]
    torch.testing.assert_close(both[0][0] / both[0][1], both[1][0] / both[1][1], atol=1e-4, rtol=1e-4)


def test_rows_without_a_history_and_without_slots_are_plain_attention() -> None:
    query, keys = drawn(ROWS, HEADS, QUERIES, WIDTH, seed=0), drawn(ROWS, SHARED, SLOTS + TURN, WIDTH, seed=1)
    values = drawn(ROWS, SHARED, SLOTS + TURN, WIDTH, seed=4)
    history = History(tuple(range(BEHIND)), (drawn(SHARED, BEHIND, WIDTH, seed=2),), (drawn(SHARED, BEHIND, WIDTH, seed=5),))
    past = Past([history, None, None], [0, 0, 0], query.device)
    mask = masked(BEHIND, window=None)
    mask[1:, ..., :BEHIND] = smallest(torch.float32)
    mask[2, ..., BEHIND:BEHIND + SLOTS] = smallest(torch.float32)
    got = Attention(past, SLOTS)(0, query, keys, values, mask, scaling=1 / math.sqrt(WIDTH))
    plain = torch.nn.functional.scaled_dot_product_attention(query, keys, values, mask[..., BEHIND:], enable_gqa=True)
    torch.testing.assert_close(got[1:], plain[1:], atol=1e-5, rtol=0)
    assert not torch.allclose(got[0], plain[0], atol=0.01)
