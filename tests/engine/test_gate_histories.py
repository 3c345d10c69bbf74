"""Gates in a conversation read the current turn on top of the history's keys and values, which they share with the lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_batches import assert_near
from made_models import make_backbone, make_patch, put, some_ids

from patchlab.engine import Lab, Sampling
from patchlab.engine.anchors import anchors_of
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.gates import read_history, score, state_behind, states
from patchlab.models import Backbone
from patchlab.patches import Gate, Stack
from patchlab.records import Message, Prompt
from patchlab.registry import Registry

BRIEF = Sampling(temperature=1.0, max_new_tokens=3, seed=5)
GATED = Stack.parse("calm,kind", gates=True)
TURNS = (Message("user", "bus"), Message("assistant", "late"), Message("user", "so"), Message("assistant", "walk"))
FIRST, SECOND = Prompt("now", earlier=TURNS[:2]), Prompt("ok", earlier=TURNS)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two patches with a gate each, on a base that no other test has used."""
    make_backbone.cache_clear()
    base = make_backbone("llama")
    for layer, name in enumerate(("calm", "kind")):
        weight = np.random.default_rng(layer).standard_normal(base.width).astype(np.float32)
        put(make_patch(base, name, length=3), tmp_path, gate=Gate(layer, weight, 0.0))
    return Lab(base, registry=Registry([tmp_path]))


@pytest.fixture
def read(lab: Lab) -> Iterator[Callable[[], int]]:
    """Gives the number of tokens that the base has read since the last call, in whatever view of it."""
    counts: list[int] = []
    hook = lab.base.model.get_input_embeddings().register_forward_hook(lambda _, ids, out: counts.append(ids[0].numel()))

    def since() -> int:
        total = sum(counts)
        counts.clear()
        return total

    anchors_of(lab.base)  # which reads a token
    since()
    yield since
    hook.remove()


def test_a_state_behind_a_history_is_that_of_the_whole_prompt(backbone: Backbone) -> None:
    """Every family, with histories of one token, shorter and longer than a sliding window, and continued ones."""
    weight = np.random.default_rng(0).standard_normal(backbone.width).astype(np.float32)
    for count in (1, 5, 30):
        ids = some_ids(count + 7, seed=count)
        history = read_history(backbone, ids[:count])
        got, expected = state_behind(backbone, ids, history, [0, 1]), states(backbone, [ids], [0, 1])[0]
        assert_near(got, expected, atol=1e-5)
        for layer in (0, 1):
            gate = Gate(layer, weight / np.linalg.norm(weight), 0.0)
            assert score(gate, got[layer]) == pytest.approx(score(gate, expected[layer]), abs=1e-5)
        longer = read_history(backbone, ids[:-1], history)
        assert longer.ids == tuple(ids[:-1])
        assert_near(state_behind(backbone, ids, longer, [1]), expected[1:], atol=1e-5)


def test_a_history_that_a_gate_reads_is_the_one_that_lanes_read(backbone: Backbone) -> None:
    ids = some_ids(20, seed=1)
    batch, mine = Batch(backbone, [BatchRow(ids)], room=0), read_history(backbone, ids)
    batch.prefill()
    theirs = batch.history()
    assert mine.ids == theirs.ids
    assert all(torch.equal(*pair) for pair in zip((*mine.keys, *mine.values), (*theirs.keys, *theirs.values), strict=True))


def test_a_gate_reads_the_current_turn_only_and_the_lanes_read_its_history(lab: Lab, read: Callable[[], int]) -> None:
    first, second = (lab.base.encode_turns(prompt) for prompt in (FIRST, SECOND))
    lab.planner.plans(GATED, [FIRST])
    assert read() == len(first.ids)  # the history once, then the turn
    lanes = lab.lanes(GATED)
    lab.replies([FIRST], stack=GATED, sampling=BRIEF)
    turn = len(first.ids) - first.turn
    assert read() == len(lanes) * (turn + 2)  # no history again: the turn and the new tokens in each lane, the last unread
    lab.planner.plans(GATED, [SECOND])
    assert read() == len(second.ids) - first.turn  # what was said since
    again = Prompt("why", earlier=TURNS)
    lab.planner.plans(GATED, [again])
    encoded = lab.base.encode_turns(again)
    assert read() == len(encoded.ids) - encoded.turn
    assert lab.scheduler.histories.read == second.turn


def test_decisions_and_replies_are_those_of_reading_everything_anew(lab: Lab, tmp_path: Path) -> None:
    prompts = [FIRST, SECOND, Prompt("why", earlier=TURNS), Prompt("hello", earlier=TURNS[:2])]
    expected = []
    for prompt in prompts:
        anew = states(lab.base, [lab.base.encode(prompt)], [0, 1])[0]
        gates = {name: lab.planner.patch(name).gate for name in ("calm", "kind")}
        expected.append(tuple(name for name, gate in gates.items() if gate and score(gate, anew[gate.layer]) < 0))
    assert [lab.planner.plans(GATED, [prompt])[0].skipped for prompt in prompts] == expected
    together = Lab(make_backbone("llama"), registry=Registry([tmp_path]))
    assert [plan.skipped for plan in together.planner.plans(GATED, prompts)] == expected


def test_prompts_that_are_planned_together_keep_no_history(lab: Lab, read: Callable[[], int]) -> None:
    lab.planner.plans(GATED, [FIRST, SECOND])
    assert read() == sum(len(lab.base.encode(prompt)) for prompt in (FIRST, SECOND)) and lab.planner.histories.read == 0
