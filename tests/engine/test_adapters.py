"""A reference that is the base with an adapter rides in the base's batch: its rows are the merged model's, others the base's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_adapters import TARGETS, adapted_of, save_adapter
from made_batches import MORE, assert_near, decoded, plans_of, texts
from made_models import byte_level, in_doubles, make_backbone, make_patch, put, saved, some_ids

from patchlab.engine import BARE, Lab, Lane, Sampling, Scheduler, StackPlan, fixed, load, stream
from patchlab.engine.anchors import anchors_of
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import BaseMismatchError
from patchlab.models import PRESETS, Backbone, Encoded, Preset, read_adapter, with_adapter
from patchlab.models.adapter import pin
from patchlab.models.quantization import narrow
from patchlab.records import Message, Prompt
from patchlab.registry import Registry

SHORT = Sampling(temperature=1.0, max_new_tokens=8, seed=2)
EARLIER = (Message("user", "bus"), Message("assistant", "late"))
AGAIN = (Message("user", "so"), Message("assistant", "walk"))


@pytest.fixture(params=["llama", "gpt2", "gpt_neox", "phi3", "opt"])
def reference(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    """A base of many families with an adapter."""
    return adapted_of(make_backbone(request.param), tmp_path)


@pytest.fixture
def mine(llama: Backbone, tmp_path: Path) -> Backbone:
    """`llama` with an adapter."""
    return adapted_of(llama, tmp_path / "adapter")


def base_of(reference: Backbone) -> Backbone:
    assert reference.origin is not None
    return reference.origin


def rows_of(reference: Backbone, *, every: int = 3, most: int = 6) -> list[BatchRow]:
    """Rows of all kinds of stack and of many lengths, and after each `every` of them one with the adapter."""
    with torch.no_grad():
        plans = plans_of(base_of(reference))
    rows: list[BatchRow] = []
    for k, plan in enumerate(plans[:most]):
        rows.append(BatchRow(some_ids(5 + 3 * k, seed=k), plan))
        if k % every == 0:
            rows.append(BatchRow(some_ids(20 - 3 * k, seed=20 + k), StackPlan.adapted(reference.adapter)))
    return rows


def bare(row: BatchRow) -> BatchRow:
    return BatchRow(row.ids, BARE, row.history, row.frame)


def test_a_row_is_the_merged_model_and_pefts(tmp_path: Path) -> None:
    for family in TARGETS:
        base = make_backbone(family)
        theirs = save_adapter(base, tmp_path)
        row = BatchRow(some_ids(7, seed=1), StackPlan.adapted(read_adapter(tmp_path, base)))
        ids = torch.tensor([[*row.ids, *MORE]])
        together = decoded(base, [BatchRow(some_ids(12, seed=2)), row, BatchRow(some_ids(3, seed=3))])[:, 1]
        with torch.no_grad():
            assert_near(together, theirs(input_ids=ids).logits[0, 6:], atol=1e-4)
            merged = theirs.merge_and_unload()
            assert_near(together, merged(input_ids=ids).logits[0, 6:], atol=1e-4)


def test_every_row_of_a_mixed_batch_is_that_row_alone(reference: Backbone) -> None:
    rows = rows_of(reference)
    together = decoded(base_of(reference), rows)
    for k, row in enumerate(rows):
        if row.plan.adapter is None:
            assert_near(together[:, k], decoded(base_of(reference), [row])[:, 0])
        else:
            assert_near(together[:, k], decoded(reference, [bare(row)])[:, 0], atol=4e-5)
            assert_near(together[:, k], decoded(base_of(reference), [row])[:, 0], atol=4e-5)
            assert not torch.allclose(together[:, k], decoded(base_of(reference), [bare(row)])[:, 0], atol=0.1)


def test_other_rows_are_bit_for_bit_what_they_are_without_the_adapter(reference: Backbone) -> None:
    """In a batch of the same rows, of which some then have the adapter and some do not."""
    rows = rows_of(reference)
    with_it, without = (decoded(base_of(reference), each) for each in (rows, [row if row.plan.adapter is None else bare(row)
                                                                              for row in rows]))
    others = [k for k, row in enumerate(rows) if row.plan.adapter is None]
    assert torch.equal(with_it[:, others], without[:, others])


def test_two_adapters_in_one_batch(mine: Backbone, tmp_path: Path) -> None:
    other = adapted_of(base_of(mine), tmp_path / "other", seed=1, targets=["k_proj", "o_proj"])
    ids = some_ids(9, seed=4)
    rows = [BatchRow(ids, StackPlan.adapted(adapter)) for adapter in (mine.adapter, None, other.adapter, mine.adapter)]
    together = decoded(base_of(mine), rows)
    for k, model in enumerate((mine, base_of(mine), other, mine)):
        assert_near(together[:, k], decoded(model, [BatchRow(ids)])[:, 0])


def test_rows_join_leave_and_change_places(reference: Backbone) -> None:
    rows = rows_of(reference, every=2)
    alone = [decoded(base_of(reference), [row])[:, 0] for row in rows]
    batch = Batch(base_of(reference), rows[:4], room=2)
    batch.prefill()
    batch.step([MORE[0]] * 4)
    later = Batch(base_of(reference), rows[4:], room=4)
    while later.unread:  # in pieces
        later.read(2)
    batch.keep([3, 1, 2])
    batch.join(later)
    going = [(3, 2), (1, 2), (2, 2), *((k, 1) for k in range(4, len(rows)))]
    for _ in range(4):
        got = batch.step([MORE[at - 1] for _, at in going])
        for place, (k, at) in enumerate(going):
            assert_near(got[place], alone[k][at], atol=2e-5)
        going = [(k, at + 1) for k, at in going]
    batch.keep([place for place, (k, _) in enumerate(going) if rows[k].plan.adapter is None])
    assert batch.model is batch.backbone.model  # without such rows, the model itself


def lanes_of(reference: Backbone, scheduler: Scheduler) -> list[Lane]:
    """The trio in one scheduler."""
    with torch.no_grad():
        patched = plans_of(scheduler.backbone)[2]  # a blend
    return [Lane("base", scheduler), Lane("patched", scheduler, fixed(patched)),
            Lane("reference", scheduler, fixed(StackPlan.adapted(reference.adapter)), reference)]


def test_lanes_in_one_scheduler_say_what_two_models_say(tmp_path: Path) -> None:
    """In doubles; conversations too, and rows that end at different steps."""
    base = in_doubles(make_backbone("llama"))
    reference = adapted_of(base, tmp_path)
    prompts = [Prompt("now", earlier=EARLIER), Prompt("hello"), Prompt("ok", earlier=(*EARLIER, *AGAIN)),
               Prompt("go", "continue")]
    together, apart = Scheduler(base), Scheduler(reference)
    lanes = lanes_of(reference, together)
    assert lanes[2].backbone is reference and lanes[0].backbone is base
    said = texts(stream(lanes, prompts, samples=2, sampling=SHORT))
    assert said == texts(stream([*lanes[:2], Lane("reference", apart)], prompts, samples=2, sampling=SHORT))
    assert said["reference", 0] != said["base", 0]
    assert said == texts(stream(lanes, prompts, samples=2, sampling=SHORT))  # now the histories are known


def test_noise_is_shared_by_the_lanes(llama: Backbone, tmp_path: Path) -> None:
    """An adapter that changes nothing says what the base says, drawn at temperature 1."""
    save_adapter(llama, tmp_path, r=1, lora_alpha=0)
    said = texts(stream(lanes_of(with_adapter(llama, read_adapter(tmp_path, llama)), Scheduler(llama)), [Prompt("tell me")],
                        samples=3, sampling=SHORT))
    assert all(said["reference", k] == said["base", k] for k in range(3))


def test_histories_are_never_shared_between_the_base_and_the_adapter(mine: Backbone) -> None:
    scheduler, prompt = Scheduler(base_of(mine)), Prompt("now", earlier=EARLIER)
    encoded = mine.encode_turns(prompt)
    for _ in texts(stream(lanes_of(mine, scheduler), [prompt], sampling=SHORT)):
        pass
    assert scheduler.histories.read == 2 * encoded.turn
    ids = encoded.ids[:encoded.turn]
    own, adapters = scheduler.histories.longest(ids), scheduler.histories.longest(ids, mine.adapter)
    assert own is not None and adapters is not None and own.adapter is None and adapters.adapter == mine.adapter
    read = Batch(mine, [BatchRow(ids)], room=0)
    read.prefill()
    assert_near(torch.stack(adapters.keys), torch.stack(read.history().keys))
    assert not torch.allclose(own.keys[1], adapters.keys[1], atol=0.01)
    following = Prompt("ok", earlier=(*EARLIER, *AGAIN))
    for _ in texts(stream(lanes_of(mine, scheduler), [following], sampling=SHORT)):
        pass
    assert scheduler.histories.read == 2 * mine.encode_turns(following).turn  # the new exchange only, once each


def test_a_row_behind_a_history_reads_it_as_the_adapter_does(reference: Backbone) -> None:
    base = base_of(reference)
    if anchors_of(base).reason:
        return
    earlier, ids, plan = some_ids(17, seed=5), some_ids(6, seed=6), StackPlan.adapted(reference.adapter)
    batches = [Batch(base, [BatchRow(earlier, each)], room=0) for each in (BARE, plan)]
    for batch in batches:
        batch.prefill()
    rows = [BatchRow(ids, each, batch.history()) for each, batch in zip((BARE, plan), batches, strict=True)]
    together = decoded(base, [rows[0], BatchRow(ids), rows[1]])
    assert_near(together[:, 0], decoded(base, [BatchRow([*earlier, *ids])])[:, 0], atol=2e-5)
    assert_near(together[:, 2], decoded(reference, [BatchRow([*earlier, *ids])])[:, 0], atol=3e-5)


def test_likelihoods_are_those_of_decoding(reference: Backbone) -> None:
    ids, plan = some_ids(9, seed=1), StackPlan.adapted(reference.adapter)
    texts = pad_texts(reference, [(ids, [*MORE, 5]), (Encoded(some_ids(20, seed=2), 0, 12), MORE[:4])])
    expected = decoded(reference, [BatchRow(ids)])[:, 0]
    for backbone, each in ((reference, BARE), (reference, plan), (base_of(reference), plan)):
        assert_near(reply_logits(backbone, texts, each)[texts.rows == 0], expected, atol=3e-5)
    assert torch.equal(reply_logits(base_of(reference), texts, plan), reply_logits(reference, texts))


def test_a_prefix_in_front_of_the_adapted_base_gets_gradients(mine: Backbone) -> None:
    """As for any backbone, checkpointing or not."""
    from patchlab.engine import compile_prefix

    texts, found = pad_texts(mine, [(some_ids(5, seed=1), MORE)]), []
    for checkpointing in (False, True):
        prefix = mine.embeddings[5:8].clone().requires_grad_(True)
        plan = StackPlan.of((compile_prefix(mine, prefix), 1.0))
        reply_logits(mine, texts, plan, checkpointing=checkpointing).square().sum().backward()
        assert prefix.grad is not None and bool(prefix.grad.abs().sum(1).gt(0).all())
        found.append(prefix.grad)
    assert_near(found[1], found[0], atol=1e-3)


def test_steps_of_constant_shape_say_the_same(mine: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    base, long = base_of(mine), Sampling(temperature=1.0, max_new_tokens=20, seed=2)
    prompts = [Prompt("a b"), Prompt("c d e f")]
    expected = texts(stream(lanes_of(mine, Scheduler(base)), prompts, sampling=long))
    monkeypatch.setattr(base, "static", True)
    assert texts(stream(lanes_of(mine, Scheduler(base)), prompts, sampling=long)) == expected


@pytest.fixture
def folders(llama: Backbone, tmp_path: Path) -> tuple[Path, Path]:
    """A base and an adapter pinned to it, on disk."""
    base, adapter = saved(llama, tmp_path / "base"), tmp_path / "safer"
    save_adapter(llama, adapter)
    pin(adapter, llama)
    return base, adapter


def test_a_lab_with_an_adapter_for_a_reference(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """On packed layers, one set of weights, one scheduler."""
    base, adapter = folders
    lab = load(base=base, reference=adapter, device="cpu", registry=Registry([tmp_path / "patches"]))
    assert lab.reference is not None and lab.reference.origin is lab.base and lab.lane_names == ("base", "patched", "reference")
    assert lab.reference_scheduler is lab.scheduler and lab.reference.name == "safer"
    mine, shared = ({each.data_ptr() for each in model.model.parameters()} for model in (lab.reference, lab.base))
    assert mine == shared
    put(make_patch(lab.base, "calm", length=9), tmp_path / "patches")
    ask: dict[str, Any] = {"stack": "calm", "sampling": SHORT}
    found = {reply.lane: reply.text for reply in lab.replies("hello", **ask)}
    apart = Lab(lab.base, registry=lab.registry).replies("hello", **ask)
    assert [found[reply.lane] for reply in apart] == [reply.text for reply in apart]
    [alone] = Lab(lab.reference, registry=lab.registry).replies("hello", lanes=["base"], sampling=SHORT)
    assert found["reference"] == alone.text
    assert len({*found.values()}) == 3
    lab.check(Prompt("hello"))
    lane = lab.lanes()[2]
    assert lane.backbone is lab.reference and lane.scheduler is lab.scheduler
    wrapped = load(model=make_backbone("llama").model, tokenizer=byte_level(), reference=adapter)
    assert wrapped.reference is not None and wrapped.reference.adapter is not None
    with pytest.raises(BaseMismatchError, match=r"adapter 'safer'.*this base, other"):
        load(base=saved(make_backbone("llama", seed=1), tmp_path / "other"), reference=adapter, device="cpu")


def test_a_preset_with_an_adapter_for_a_reference(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = folders
    monkeypatch.setattr("patchlab.models.presets.ASSETS", base.parent)
    monkeypatch.setitem(PRESETS, "made", Preset("made", "Made", base.name, adapter.name, "A made one.", "Apache-2.0", (0.1,),
                                                embedded=True))
    lab = load("made", device="cpu")
    assert lab.reference is not None and lab.reference.origin is lab.base and lab.about == "A made one."


def test_an_adapter_on_a_quantised_base(llama: Backbone, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = Backbone(in_doubles(llama).model.float(), llama.tokenizer, name="tiny-llama")
    narrow(base.model, 8)
    save_adapter(llama, tmp_path)
    reference = with_adapter(base, read_adapter(tmp_path, base))
    assert reference.bits == 8
    ids, plan = some_ids(9, seed=1), StackPlan.adapted(reference.adapter)
    together = decoded(base, [BatchRow(ids), BatchRow(ids, plan)])
    assert_near(together[:, 1], decoded(reference, [BatchRow(ids)])[:, 0], atol=1e-4)
    assert_near(together[:, 0], decoded(base, [BatchRow(ids)])[:, 0], atol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=0.1)
