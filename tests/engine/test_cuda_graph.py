"""Steps whose shapes stay the same say what other steps say; on a GPU, as one graph."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from made_batches import segment_of, texts
from made_models import make_backbone, some_ids

from patchlab.engine import Lane, Sampling, Scheduler, StackPlan, blend, fixed, stream
from patchlab.engine.cuda_graph import PATIENCE, StaticStep
from patchlab.engine.decode import Batch, BatchRow
from patchlab.models import Backbone
from patchlab.records import Prompt

TOKENS = 2 * PATIENCE + 3


def spoken(backbone: Backbone) -> list[str]:
    """What three lanes say, a blend among them, until rows leave and beyond the room of a short prompt."""
    parts, scheduler = ((segment_of(backbone, "own-0", 3), 1.0), (segment_of(backbone, "own-4", 7), 0.5)), Scheduler(backbone)
    lanes = [Lane("base", scheduler), Lane("patched", scheduler, fixed(StackPlan.of(*parts))),
             Lane("blend", scheduler, fixed(StackPlan(blend(parts))))]
    said = texts(stream(lanes, [Prompt("a b"), Prompt("c d e f g")], sampling=Sampling(max_new_tokens=TOKENS, temperature=1.0)))
    return [said[key] for key in sorted(said)]


def test_a_stream_says_the_same(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the family, and a blend too."""
    expected = spoken(backbone)
    monkeypatch.setattr(backbone, "static", True)
    assert spoken(backbone) == expected


def test_the_step_is_begun_once_a_layout_and_only_where_it_stays(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph takes longer to record than a few steps."""
    made: list[int] = []
    begin = StaticStep.__init__
    monkeypatch.setattr(StaticStep, "__init__", lambda self, batch: (made.append(batch.still), begin(self, batch))[1])
    monkeypatch.setattr(llama, "static", True)
    batch = Batch(llama, [BatchRow(some_ids(5, seed=1)), BatchRow(some_ids(3, seed=2))], room=40)
    batch.prefill()
    for _ in range(3 * PATIENCE):
        batch.step([5, 6])
    batch.keep([1])
    for _ in range(PATIENCE - 1):
        batch.step([5])
    assert made == [PATIENCE]
    batch.step([5])
    assert made == [PATIENCE] * 2


def test_what_a_stream_held_is_free_once_it_is_closed(llama: Backbone, held: Callable[[], list[weakref.ref[torch.Tensor]]],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not when rubbish is next collected."""
    monkeypatch.setattr(llama, "static", True)
    gc.disable()
    try:
        running = stream([Lane("base", Scheduler(llama))], [Prompt("a b")], sampling=Sampling(max_new_tokens=40))
        for _ in range(PATIENCE + 2):
            next(running)
        blocks = held()
        assert blocks and all(block() is not None for block in blocks)
        running.close()  # type: ignore[attr-defined]
        assert all(block() is None for block in blocks)
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a graph needs a GPU")
def test_a_gpu_replays_what_it_would_compute() -> None:
    """The logits of every step, over a change of layout."""
    made = make_backbone("llama")
    backbone = Backbone(copy.deepcopy(made.model).to("cuda"), made.tokenizer, name="on a GPU")
    rows = [BatchRow(some_ids(5, seed=1)), BatchRow(some_ids(3, seed=2))]
    found = []
    for static in (False, True):
        backbone.static = static
        batch = Batch(backbone, rows, room=40)
        steps = [batch.prefill(), *(batch.step([5 + k, 6 + k]).clone() for k in range(2 * PATIENCE))]
        assert (batch.static is not None and batch.static.graph is not None) == static
        batch.keep([1])
        found.append([*steps, *(batch.step([7 + k]).clone() for k in range(2 * PATIENCE))])
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=0)
