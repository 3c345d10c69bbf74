"""Gates: a prompt that they skip is answered as without the patch, to the bit; any other as if there were no gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import make_backbone, make_patch, put, some_ids
from torch import Tensor

from patchlab.engine import BARE, Lab, Sampling, StackPlan, gates, normalised, plan
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.gates import score, states
from patchlab.engine.likelihood import encode_texts, reply_logits
from patchlab.errors import BaseMismatchError, ContextError, PatchFormatError, StackError
from patchlab.models import Backbone
from patchlab.patches import Gate, Stack
from patchlab.patches.stack import MODES
from patchlab.records import Prompt
from patchlab.registry import Registry

BRIEF = Sampling(temperature=1.0, max_new_tokens=8, seed=5)
PROMPTS = [Prompt(text) for text in ("hello", "and who are you?", "tell me a long story about rain and snow", "why", "oh no",
                                     "the bus is late", "bake bread", "ten birds sat on a wall")]


def dividing(backbone: Backbone, layer: int = 1, *, seed: int = 0) -> Gate:
    """A gate in a random direction that skips half of PROMPTS, far from all of their scores."""
    weight = np.random.default_rng(seed).standard_normal(backbone.width).astype(np.float32)
    read = states(backbone, [backbone.encode(prompt) for prompt in PROMPTS], [layer])[:, 0]
    ordered = sorted(score(Gate(layer, weight, 0.0), state) for state in read)
    return Gate(layer, weight, -(ordered[3] + ordered[4]) / 2)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """With the patches calm and kind, each with a gate, and plain, without one."""
    base = make_backbone("llama")
    for seed, name in enumerate(("calm", "kind")):
        put(make_patch(base, name, length=3 + seed, strength=0.5 + seed), tmp_path, gate=dividing(base, seed, seed=seed))
    put(make_patch(base, "plain", length=5), tmp_path)
    return Lab(base, make_backbone("llama", seed=1), registry=Registry([tmp_path]))


def skipped(lab: Lab, stack: Stack) -> list[tuple[str, ...]]:
    return [one.skipped for one in lab.planner.plans(stack, PROMPTS)]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each reading of states since was of."""
    read: list[int] = []

    def counting(base: Backbone, prompts: Sequence[Sequence[int]], layers: Sequence[int]) -> Tensor:
        read.append(len(prompts))
        return states(base, prompts, layers)

    monkeypatch.setattr(plan, "states", counting)
    return read


def test_states_are_those_of_a_plain_forward_alone_or_together(backbone: Backbone) -> None:
    """Every family; the layers' own outputs, so the last one before the final norm."""
    prompts = [some_ids(length, seed=k) for k, length in enumerate((20, 3, 11, 1, 20, 7, 9, 2))]
    together = states(backbone, prompts, [0, 1])
    for ids, row in zip(prompts, together, strict=True):
        torch.testing.assert_close(states(backbone, [ids], [0, 1])[0], row, atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            plain = backbone.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(plain[1][0, -1], row[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[4])  # it depends on the prompt


def test_prompts_are_read_in_pieces_as_well_as_at_once(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [some_ids(length, seed=length) for length in (5, 30, 2, 17)]
    at_once = states(llama, prompts, [1])
    monkeypatch.setattr(gates, "TOKENS", 20)
    torch.testing.assert_close(states(llama, prompts, [1]), at_once, atol=1e-5, rtol=1e-5)


def test_threads_do_not_reach_each_others_states(llama: Backbone) -> None:
    """Bit for bit, while others read other layers and the model itself decodes."""
    asked = [(some_ids(3 + k % 9, seed=k), k % 2) for k in range(240)]
    expected = [states(llama, [ids], [layer])[0, 0] for ids, layer in asked]

    def found(each: tuple[list[int], int]) -> Tensor:
        ids, layer = each
        Batch(llama, [BatchRow(ids)], room=2).prefill()
        return states(llama, [ids], [layer])[0, 0]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(found, asked))
    assert all(torch.equal(mine, alone) for mine, alone in zip(together, expected, strict=True))


@torch.no_grad()
def test_rows_that_are_skipped_are_the_base_to_the_bit_and_others_the_patch(lab: Lab) -> None:
    patch, plans = lab.planner.plan(Stack.parse("calm")), lab.planner.plans(Stack.parse("calm", gates=True), PROMPTS)
    assert skipped(lab, Stack.parse("calm", gates=True)).count(("calm",)) == 4 and len({id(one) for one in plans}) == 2
    ids = [lab.base.encode(prompt) for prompt in PROMPTS]
    for own, one in zip(plans, ids, strict=True):
        alone = Batch(lab.base, [BatchRow(one, own)], room=4).prefill()[0]
        stock = lab.base.model(input_ids=torch.tensor([one]), use_cache=True, logits_to_keep=1).logits[0, -1]
        with_patch = Batch(lab.base, [BatchRow(one, patch)], room=4).prefill()[0]
        assert torch.equal(alone, stock if own.skipped else with_patch) and not torch.equal(stock, with_patch)
    rows = Batch(lab.base, [BatchRow(one, own) for one, own in zip(ids, plans, strict=True)], room=4).prefill()
    alone_or_not = [BatchRow(one, BARE if own.skipped else patch) for one, own in zip(ids, plans, strict=True)]
    expected = Batch(lab.base, alone_or_not, room=4)
    assert torch.equal(rows, expected.prefill())


@pytest.mark.parametrize("mode", MODES)
def test_each_prompt_is_answered_as_by_the_stack_its_gates_leave(lab: Lab, mode: Any) -> None:
    """Streamed together, against each prompt alone with a stack that holds no more than what is on."""
    stack = Stack.parse("kind,plain,calm", mode=mode, gates=True)
    off = skipped(lab, stack)
    assert {len(names) for names in off} == {0, 1, 2}
    patched = lab.replies(PROMPTS, stack=stack, sampling=BRIEF, samples=2, lanes=["base", "patched"])[2 * len(PROMPTS):]
    for k, (prompt, names) in enumerate(zip(PROMPTS, off, strict=True)):
        left = dataclasses.replace(stack, gates=False)
        for name in names:
            left = left.without(name)
        alone = lab.replies(prompt, stack=left, sampling=BRIEF, samples=2, lanes=["patched"])
        assert [reply.text for reply in alone] == [reply.text for reply in patched[2 * k:2 * k + 2]]
    ungated = lab.replies(PROMPTS, stack=dataclasses.replace(stack, gates=False), sampling=BRIEF, lanes=["patched"])
    assert [reply.text for reply in ungated] != [reply.text for reply in patched[::2]]


def test_a_gate_is_asked_once_a_prompt(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, so that its score is the same in any company; then it is remembered, and forgotten with the gate."""
    read = counted(monkeypatch)
    both, one = Stack.parse("calm,kind", gates=True), Stack.parse("calm:0.5,plain", mode="blend", gates=True)
    off = skipped(lab, both)
    assert read == [1] * 8
    assert skipped(lab, both) == off and [names[:1] == ("calm",) for names in off] == [bool(names) for names in skipped(lab, one)]
    lab.replies(PROMPTS, stack=both, sampling=BRIEF, lanes=["patched"])
    assert read == [1] * 8
    put(make_patch(lab.base, "calm", length=3), tmp_path, gate=dividing(lab.base, 0, seed=7))
    assert skipped(lab, both) != off and read == [1] * 16


def test_no_more_decisions_are_kept_than_are_worth_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch)
    monkeypatch.setattr(plan, "REMEMBERED", 3)
    stack = Stack.parse("calm", gates=True)
    lab.planner.plans(stack, PROMPTS[:4])
    lab.planner.plans(stack, [PROMPTS[1], PROMPTS[4], PROMPTS[1]])
    assert len(read) == 5
    lab.planner.plans(stack, [PROMPTS[2]])  # the one not asked for longest has left
    assert len(read) == 6


def test_nothing_is_read_where_no_gate_is_asked_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch)
    for stack in (Stack.parse("calm,plain"), Stack.parse("plain", gates=True), Stack.parse("calm:0,plain", gates=True)):
        lab.replies(PROMPTS[:2], stack=stack, sampling=BRIEF)
        assert skipped(lab, stack) == [()] * len(PROMPTS)
    unasked = lab.planner.plan(Stack.parse("calm,kind", gates=True))  # without a prompt gates count for nothing
    assert unasked.skipped == () and unasked.rows == lab.planner.plan(Stack.parse("calm,kind")).rows
    assert read == []


def test_likelihoods_heed_them(lab: Lab) -> None:
    """Distance from the base is nothing at all where the patch is skipped, and what it would be without a gate elsewhere."""
    texts = [encode_texts(lab.base, [prompt], ["so it is said"]) for prompt in PROMPTS]
    on = lab.planner.plan(Stack.parse("calm"))
    for text, own in zip(texts, lab.planner.plans(Stack.parse("calm", gates=True), PROMPTS), strict=True):
        base, mine, ungated = (reply_logits(lab.base, text, each) for each in (BARE, own, on))
        assert torch.equal(mine, base if own.skipped else ungated) and not torch.allclose(base, ungated, atol=1e-3)


def test_a_state_that_is_no_number_leaves_the_patch_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "states", lambda base, prompts, layers: torch.full((1, len(layers), base.width), torch.nan))
    assert skipped(lab, Stack.parse("calm,kind", gates=True)) == [()] * len(PROMPTS)


def test_a_gate_that_does_not_fit_the_base_is_refused(lab: Lab, tmp_path: Path) -> None:
    base, other = lab.base, make_backbone("llama", seed=1)
    put(make_patch(base, "deep", length=3), tmp_path, gate=Gate(2, np.ones(base.width, np.float32), 0.0))
    put(make_patch(other, "alien", length=3), tmp_path, gate=dividing(other))
    for prompts in (PROMPTS, []):
        with pytest.raises(PatchFormatError, match="layer 2 in patch deep"):
            lab.planner.plans(Stack.parse("deep", gates=True), prompts)
    assert lab.planner.plan(Stack.parse("deep")).slots == 3
    with pytest.raises(BaseMismatchError, match="alien"):
        lab.planner.plan(Stack.parse("alien", gates=True))


def test_a_prompt_too_long_to_read_is_said_where_it_is_asked(lab: Lab) -> None:
    long = Prompt("x" * 2 * lab.base.context)
    assert lab.planner.plan(Stack.parse("calm", gates=True), long).skipped == ()
    with pytest.raises(ContextError, match="shorten the prompt"):
        lab.stream(long, stack=Stack.parse("calm", gates=True))


def test_gates_leave_the_strength_that_is_given_to_a_sequence(lab: Lab) -> None:
    plans = lab.planner.plans(Stack.parse("calm:0.4,kind,plain", mode="sequential", gates=True), PROMPTS)
    assert {strength for one in plans for row in one.rows for _, strength in row.parts} == {0.4}
    assert len({one.slots for one in plans}) > 1
    assert {tuple((each.name, each.strength) for each in one.patches) for one in plans} == {
        (("calm", 0.4), ("kind", 0.4), ("plain", 0.4))}  # all of the stack's, whichever are skipped


def test_strengths_scale_to_a_sum_that_is_a_number(lab: Lab) -> None:
    [row] = lab.planner.plan(Stack.parse("calm:2,kind:1")).rows
    assert sorted(strength for _, strength in normalised(row.parts)) == pytest.approx([1 / 3, 2 / 3])
    assert StackPlan.of(*normalised(row.parts)).slots == 7
    for most in (float("nan"), -1.0, 0.0):
        with pytest.raises(StackError, match="strengths that add up to"):
            normalised(row.parts, most)
