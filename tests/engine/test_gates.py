"""Gates: a prompt let through is answered as without the patch, to the bit; any other as if there were no gate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import make_backbone, make_patch, some_ids

from patchlab.engine import Gated, Sampling, Service, Trio, gates, normalised
from patchlab.engine.decode import Batch, Row
from patchlab.engine.gates import let_through, resolved, score, states, whole
from patchlab.errors import BaseMismatchError, PatchFormatError, StackError
from patchlab.evaluation.probabilities import divergences, log_losses
from patchlab.models import Backbone, Preset
from patchlab.patches import Gate, Patch, Stack
from patchlab.patches.stack import MODES
from patchlab.records import Prompt, Reply
from patchlab.registry import Registry

BRIEF = Sampling(temperature=1.0, max_new_tokens=8, seed=5)
PROMPTS = [Prompt(text) for text in ("hello", "and who are you?", "tell me a long story about rain and snow", "why", "oh no",
                                     "the bus is late", "bake bread", "ten birds sat on a wall")]


def dividing(backbone: Backbone, layer: int = 1, *, seed: int = 0) -> Gate:
    """A gate in a random direction that lets half of PROMPTS through, far from all of their scores."""
    weight = np.random.default_rng(seed).standard_normal(backbone.width).astype(np.float32)
    read = states(backbone, [backbone.encode(prompt) for prompt in PROMPTS], [layer])[:, 0]
    ordered = sorted(score(Gate(layer, weight, 0.0), state) for state in read)
    return Gate(layer, weight, -(ordered[3] + ordered[4]) / 2)


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """A trio with the patches calm and kind, each with a gate, and plain, without one."""
    base = make_backbone("llama")
    for seed, name in enumerate(("calm", "kind")):
        dataclasses.replace(make_patch(base, name, length=3 + seed), gate=dividing(base, seed, seed=seed)).save_pretrained(
            tmp_path / f"{name}-1.0.0")
    make_patch(base, "plain", length=5).save_pretrained(tmp_path / "plain-1.0.0")
    return Trio(base, make_backbone("llama", seed=1), registry=Registry([tmp_path]),
                preset=Preset("tiny", "Tiny", "a", "b", "made"))


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


@torch.no_grad()
def test_rows_let_through_are_the_base_to_the_bit_and_others_the_patch(trio: Trio) -> None:
    asked, ids = trio.parts(Stack.parse("calm", gates=True)), [trio.base.encode(prompt) for prompt in PROMPTS]
    assert isinstance(asked, Gated)
    names, patch = trio.let_through(Stack.parse("calm", gates=True), PROMPTS), trio.parts(Stack.parse("calm"))
    assert names.count(("calm",)) == names.count(()) == 4
    for off, one in zip(names, ids, strict=True):
        [own] = resolved(trio.base, [(one, asked)])
        alone = Batch(trio.base, [Row(one, own)], room=4).prefill()[0]
        stock = trio.base.model(input_ids=torch.tensor([one]), use_cache=True, logits_to_keep=1).logits[0, -1]
        with_patch = Batch(trio.base, [Row(one, patch)], room=4).prefill()[0]
        assert torch.equal(alone, stock if off else with_patch) and not torch.equal(stock, with_patch)
    together = resolved(trio.base, [(one, asked) for one in ids])
    assert together == [() if off else patch for off in names]  # eight at once decide as each alone
    rows = Batch(trio.base, [Row(one, own) for one, own in zip(ids, together, strict=True)], room=4).prefill()
    expected = Batch(trio.base, [Row(one, () if off else patch) for one, off in zip(ids, names, strict=True)], room=4).prefill()
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("mode", MODES)
def test_each_prompt_is_answered_as_by_the_stack_its_gates_leave(trio: Trio, mode: str) -> None:
    """Streamed together, against each prompt alone with a stack that holds no more than what is on."""
    stack = Stack.parse("kind,plain,calm", mode=mode, gates=True)  # type: ignore[arg-type]
    assert {len(off) for off in trio.let_through(stack, PROMPTS)} == {0, 1, 2}
    found = trio.replies(PROMPTS, stack=stack, sampling=BRIEF, samples=2, lanes=["base", "patched"])
    patched = [reply for reply in found if reply.lane == "patched"]
    for k, (prompt, off) in enumerate(zip(PROMPTS, trio.let_through(stack, PROMPTS), strict=True)):
        left = dataclasses.replace(stack, gates=False)
        for name in off:
            left = left.without(name)
        alone = trio.replies([prompt], stack=left, sampling=BRIEF, samples=2, lanes=["patched"])
        assert [reply.text for reply in alone] == [reply.text for reply in patched[2 * k:2 * k + 2]]
    ungated = trio.replies(PROMPTS, stack=dataclasses.replace(stack, gates=False), sampling=BRIEF, lanes=["patched"])
    assert [reply.text for reply in ungated] != [reply.text for reply in patched[::2]]


def test_a_service_heeds_them_too_and_reads_newcomers_at_once(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(gates, "states", lambda base, prompts, layers: read.append(len(prompts)) or states(base, prompts, layers))
    stack = Stack.parse("calm,kind", mode="blend", gates=True)
    service, texts = Service(trio.base, rows=24), dict.fromkeys(range(len(PROMPTS) + 1), "")
    for prompt in PROMPTS:
        service.submit(prompt, parts=trio.parts(stack), sampling=BRIEF)
    service.submit(PROMPTS[0], parts=trio.parts(Stack.parse("plain")), sampling=BRIEF)
    while service:
        for delta in service.step():
            texts[delta.row] += delta.text
    assert read == [8]  # three forward rows each at most, so all eight join at once; the ninth has no gate
    expected = trio.replies(PROMPTS, stack=stack, sampling=BRIEF, lanes=["patched"])
    assert [texts[k].strip() for k in range(len(PROMPTS))] == [reply.text for reply in expected]


def test_nothing_is_read_where_no_gate_is_asked_for(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "states", lambda *given: pytest.fail("a bare forward for nothing"))
    for stack in (Stack.parse("calm,plain"), Stack.parse("plain", gates=True), Stack.parse("calm:0,plain", gates=True)):
        trio.replies(PROMPTS[:2], stack=stack, sampling=BRIEF)
        assert trio.let_through(stack, PROMPTS[:2]) == [(), ()]


def test_figures_of_a_models_own_probabilities_heed_them(trio: Trio) -> None:
    stack = Stack.parse("calm", gates=True)
    said = [Reply("base", k, prompt, 0, "so it is said", 4, "end") for k, prompt in enumerate(PROMPTS)]
    off = trio.let_through(stack, PROMPTS)
    moved, never = divergences(trio.base, said, trio.parts(stack)), divergences(trio.base, said, trio.parts(Stack.parse("calm")))
    assert [value == 0 for value in moved] == [bool(names) for names in off]  # nothing at all, not nearly nothing
    assert [value for value, names in zip(moved, off, strict=True) if not names] == pytest.approx(
        [value for value, names in zip(never, off, strict=True) if not names], abs=1e-5)
    assert len(log_losses(trio.base, said, trio.parts(stack))) == len(said)


def test_a_state_that_is_no_number_leaves_the_patch_on(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "states", lambda base, prompts, layers: torch.full((1, 1, base.width), torch.nan))
    assert let_through(llama, [([5, 6], {"calm": dividing(llama)})]) == [()]


def test_a_gate_that_does_not_fit_the_base_is_refused(trio: Trio, tmp_path: Path) -> None:
    base, other = trio.base, make_backbone("llama", seed=1)
    calm = make_patch(base, "deep", length=3)
    dataclasses.replace(calm, gate=Gate(2, np.ones(base.width, np.float32), 0.0)).save_pretrained(tmp_path / "deep-1.0.0")
    alien: Patch = dataclasses.replace(make_patch(other, "alien", length=3), gate=dividing(other))
    alien.save_pretrained(tmp_path / "alien-1.0.0")
    with pytest.raises(PatchFormatError, match="layer 2 in patch deep"):
        trio.parts(Stack.parse("deep", gates=True))
    assert trio.parts(Stack.parse("deep"))
    with pytest.raises(BaseMismatchError, match="alien"):
        trio.parts(Stack.parse("alien", gates=True))


def test_the_most_a_gated_stack_takes_is_checked_before_it_runs(trio: Trio) -> None:
    asked = trio.parts(Stack.parse("calm,kind", gates=True))
    assert whole(asked) == trio.parts(Stack.parse("calm,kind"))


def test_gates_leave_the_strength_that_is_given_to_a_sequence(trio: Trio) -> None:
    stack = Stack.parse("calm:0.4,kind,plain", mode="sequential", gates=True)
    found = resolved(trio.base, [(trio.base.encode(prompt), trio.parts(stack)) for prompt in PROMPTS])
    assert {strength for [(_, strength)] in found} == {0.4} and len({segment.length for [(segment, _)] in found}) > 1


def test_what_depends_on_the_prompt_or_is_blended_is_not_normalised(trio: Trio) -> None:
    for mode, gated in (("parallel", True), ("blend", False)):
        with pytest.raises(StackError, match="to normalise; expected parts that stand side by side"):
            normalised(trio.parts(Stack.parse("calm,kind", mode=mode, gates=gated)))  # type: ignore[arg-type]
    for most in (float("nan"), -1.0, 0.0):
        with pytest.raises(StackError, match="strengths that add up to"):
            normalised(trio.parts(Stack.parse("calm,kind")), most)  # type: ignore[arg-type]
