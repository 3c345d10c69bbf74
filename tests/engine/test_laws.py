"""The laws of patches as attention masks, held on logits, for every family, against forwards without bank or cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from made_batches import ATOL, MORE, assert_near, decoded, prefix_of, segment_of
from made_models import (
    FALCON_HEADS,
    FAMILIES,
    SLIDING,
    WINDOW,
    byte_level,
    eager_twin,
    falcon,
    full_forward,
    make_backbone,
    make_model,
    make_patch,
    some_ids,
)
from torch import Tensor
from transformers import DynamicCache

from patchlab.engine import BARE, Bank, StackPlan, compile_prefix, normalised
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.forward_rows import Part
from patchlab.models import Backbone
from patchlab.models.architectures import TESTED


@torch.no_grad()
def mixed_rows(backbone: Backbone) -> list[tuple[BatchRow, list[tuple[Tensor, float]]]]:
    """Rows of many lengths and stacks, each with the parts as prefixes that the full forward takes."""
    a, b = prefix_of(backbone, "a", 5), prefix_of(backbone, "b", 11)
    sa, sb = compile_prefix(backbone, a), compile_prefix(backbone, b)
    ids = some_ids(24, seed=1)
    stacks = [[], [(sa, a, 1.0)], [(sb, b, 0.5)], [(sa, a, 1.0), (sb, b, 2.0)], []]
    return [(BatchRow(ids[-length:], StackPlan.of(*((segment, strength) for segment, _, strength in stack))),
             [(prefix, strength) for _, prefix, strength in stack])
            for length, stack in zip((24, 3, 17, 9, 12), stacks, strict=True)]


def test_every_tested_family_is_held_here() -> None:
    assert set(FAMILIES) == set(TESTED)


@torch.no_grad()
def test_a_row_in_any_batch_is_the_row_alone_and_the_full_forward(backbone: Backbone) -> None:
    """Different lengths, so left padding; different stacks; far beyond the window of sliding layers."""
    cases = mixed_rows(backbone)
    together = decoded(backbone, [row for row, _ in cases])
    for k, (row, parts) in enumerate(cases):
        assert_near(together[:, k], decoded(backbone, [row])[:, 0])
        assert_near(together[:, k], full_forward(backbone, [*row.ids, *MORE], parts)[len(row.ids) - 1:])
    turned = decoded(backbone, [row for row, _ in reversed(cases)])
    assert_near(turned.flip(1), together)


@torch.no_grad()
def test_patches_matter_and_so_do_their_strengths(backbone: Backbone) -> None:
    """Without this, the equalities of this file could hold between patches that do nothing."""
    segment = segment_of(backbone, "a", 5)
    ids = some_ids(9, seed=2)
    off, half, on = (decoded(backbone, [BatchRow(ids, StackPlan.of((segment, strength)))])[:, 0] for strength in (0.0, 0.5, 1.0))
    effect = (off - on).abs().amax(-1)
    assert bool((effect > 1000 * ATOL).all())
    assert bool(((half - on).abs().amax(-1) > 100 * ATOL).all())


@torch.no_grad()
def test_no_patch_is_the_base_bit_for_bit(backbone: Backbone) -> None:
    """Against the stock model's own generation, with its own cache and masks.

    Beyond the window a stock cache forgets keys where the bank's layers hide them: the same sum in another order. There
    the bits are held against the stock model with a stock cache that forgets nothing.
    """
    ids = torch.tensor([some_ids(5, seed=3), some_ids(5, seed=4)])
    made = backbone.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
                                   return_dict_in_generate=True, output_logits=True, eos_token_id=None, pad_token_id=2)
    batch, cache = Batch(backbone, [BatchRow(row.tolist()) for row in ids], room=12), DynamicCache()
    slides = backbone.model.config.model_type in SLIDING
    new = ids
    for step in range(12):
        mine = batch.step(new[:, 0].tolist()) if step else batch.prefill()
        stock = backbone.model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        assert torch.equal(mine, stock)
        if slides and 5 + step >= WINDOW:
            assert_near(mine, made.logits[step])
        else:
            assert torch.equal(mine, made.logits[step])
        new = made.sequences[:, 5 + step, None]


@torch.no_grad()
def test_parallel_stacks_are_equal_in_any_order(backbone: Backbone) -> None:
    lengths = {"a": 5, "b": 11, "c": 3}
    on = [(segment_of(backbone, name, length), strength)
          for (name, length), strength in zip(lengths.items(), (1.0, 0.7, 2.0), strict=True)]
    ids = some_ids(10, seed=5)
    first, *others = (decoded(backbone, [BatchRow(ids, StackPlan.of(*order))]) for order in itertools.permutations(on))
    for other in others:
        assert_near(other, first)


@torch.no_grad()
def test_strengths_that_add_up_to_one_make_many_copies_one_patch(backbone: Backbone) -> None:
    segment = segment_of(backbone, "a", 5)
    ids = some_ids(10, seed=5)
    one, many = ((segment, 1.0),), ((segment, 1.0),) * 4
    alone = decoded(backbone, [BatchRow(ids, StackPlan.of(*one))])
    assert_near(decoded(backbone, [BatchRow(ids, StackPlan.of(*normalised(many)))]), alone)
    assert not torch.allclose(decoded(backbone, [BatchRow(ids, StackPlan.of(*many))]), alone, atol=100 * ATOL)
    assert normalised(many, 4.0) == many and normalised(one, 2.0) == one and normalised(()) == ()
    assert [strength for _, strength in normalised(((segment, 1.0), (segment, 3.0)), 2.0)] == [0.5, 1.5]


@torch.no_grad()
def test_a_stack_of_one_is_its_embeddings_prepended(backbone: Backbone) -> None:
    """Through the stock forward with its own positions and mask; within the window, where that sees the prefix too."""
    prefix, ids = prefix_of(backbone, "a", 3), some_ids(WINDOW - 3, seed=6)
    embeds = torch.cat([prefix, backbone.model.get_input_embeddings()(torch.tensor(ids))])[None]
    stock = backbone.model(inputs_embeds=embeds).logits[0, 3:]
    row = BatchRow(ids[:1], StackPlan.of((compile_prefix(backbone, prefix), 1.0)))
    assert_near(decoded(backbone, [row], ids[1:])[:, 0], stock)


@torch.no_grad()
def test_a_stack_of_one_is_pefts_forward(backbone: Backbone, tmp_path: Path,
                                         weights: Callable[[Backbone], str]) -> None:
    peft = pytest.importorskip("peft")
    before = weights(backbone)
    patch = make_patch(backbone, "a", length=3)
    ids = some_ids(WINDOW - 3, seed=7)
    segment = Bank(backbone).segment([patch])
    model = peft.PeftModel.from_pretrained(backbone.model, str(patch.save_pretrained(tmp_path / "a-1.0.0"))).eval()
    theirs = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits[0, 3:]
    assert_near(decoded(backbone, [BatchRow(ids[:1], StackPlan.of((segment, 1.0)))], ids[1:])[:, 0], theirs)
    assert weights(backbone) == before


@torch.no_grad()
def test_a_sequence_is_its_embeddings_concatenated(backbone: Backbone) -> None:
    patches = [make_patch(backbone, "a", length=2), make_patch(backbone, "b", length=3)]
    ids = some_ids(WINDOW - 5, seed=8)
    bank = Bank(backbone)
    embeds = torch.cat([*(torch.tensor(patch.prefix) for patch in patches),
                        backbone.model.get_input_embeddings()(torch.tensor(ids))])[None]
    stock = backbone.model(inputs_embeds=embeds).logits[0, 5:]
    in_order = decoded(backbone, [BatchRow(ids[:1], StackPlan.of((bank.segment(patches), 1.0)))], ids[1:])
    assert_near(in_order[:, 0], stock)
    turned = decoded(backbone, [BatchRow(ids[:1], StackPlan.of((bank.segment(patches[::-1]), 1.0)))], ids[1:])
    assert not torch.allclose(turned, in_order, atol=100 * ATOL)


@torch.no_grad()
def test_strength_zero_is_off_and_one_is_as_trained(backbone: Backbone) -> None:
    prefix, other = prefix_of(backbone, "a", 5), prefix_of(backbone, "b", 11)
    segment, second = compile_prefix(backbone, prefix), compile_prefix(backbone, other)
    ids = some_ids(14, seed=9)

    def row(*parts: Part) -> BatchRow:
        return BatchRow(ids, StackPlan.of(*parts))

    base = decoded(backbone, [BatchRow(ids)])
    assert torch.equal(decoded(backbone, [row((segment, 0.0))]), base)
    # also where another row keeps the slots in the batch, and beside a part that is on
    assert_near(decoded(backbone, [row((segment, 0.0)), row((segment, 1.0))])[:, :1], base)
    assert torch.equal(decoded(backbone, [row((segment, 1.0), (second, 0.0))]), decoded(backbone, [row((segment, 1.0))]))
    for strength in (0.25, 1.0, 3.0):  # full_forward adds log(strength) by hand
        got = decoded(backbone, [row((segment, strength))])[:, 0]
        assert_near(got, full_forward(backbone, [*ids, *MORE], [(prefix, strength)])[len(ids) - 1:])


@torch.no_grad()
def test_strength_two_is_the_patch_twice(backbone: Backbone) -> None:
    """Attention adds exponentials: log(2) on a slot is a second slot like it. Two names may hold one prefix."""
    segment = segment_of(backbone, "a", 5)
    twin = segment_of(backbone, "a", 5)
    ids = some_ids(8, seed=10)
    doubled = decoded(backbone, [BatchRow(ids, StackPlan.of((segment, 2.0)))])
    for other in (twin, segment):
        assert_near(decoded(backbone, [BatchRow(ids, StackPlan.of((segment, 1.0), (other, 1.0)))]), doubled)


@pytest.mark.parametrize("family", SLIDING)
@torch.no_grad()
def test_far_beyond_the_window_the_bank_stays_and_text_leaves(family: str) -> None:
    """One sliding layer, so that what is outside the window cannot come in through the layer before."""
    backbone = one_layer(family)
    segment = segment_of(backbone, "a", 11)
    ids, other = some_ids(3 * WINDOW, seed=11), some_ids(WINDOW, seed=12)

    on = StackPlan.of((segment, 1.0))

    def last(tokens: Sequence[int], plan: StackPlan) -> Tensor:
        return decoded(backbone, [BatchRow(tokens[:4], plan), BatchRow(tokens[:2])], tokens[4:])[-1, 0]

    with_patch = last(ids, on)
    assert not torch.allclose(with_patch, last(ids, BARE), atol=1000 * ATOL)  # seen from 13 beyond the window
    changed = [*other, *ids[WINDOW:]]
    assert_near(last(changed, on), with_patch)  # text from 16 back is out of sight
    edge = [*ids[:-WINDOW], other[0], *ids[-WINDOW + 1:]]  # the last token that the window holds
    assert not torch.allclose(last(edge, on), with_patch, atol=100 * ATOL)


def one_layer(family: str) -> Backbone:
    own = {"layer_types": ["sliding_attention"]} if family.startswith("gemma") else {}
    model = make_model(family, vocabulary=len(byte_level()), num_hidden_layers=1, **own)
    return Backbone(model, byte_level(), name=f"one-layer-{family}")


@torch.no_grad()
def test_dropping_finished_rows_changes_no_other(backbone: Backbone) -> None:
    rows = [row for row, _ in mixed_rows(backbone)]
    whole = decoded(backbone, rows)
    batch = Batch(backbone, rows, room=len(MORE) + 1)
    batch.prefill()
    going = list(range(len(rows)))
    for step, token in enumerate(MORE):
        leaving = {2: 0, 5: 4, 9: 2}.get(step)  # a row leaves before and after the window is full
        if leaving is not None:
            batch.keep([k for k, row in enumerate(going) if row != leaving])
            going.remove(leaving)
        assert_near(batch.step([token] * len(going)), whole[step + 1][going])
    assert len(going) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_sixteen_bits_lose_with_patches_no_more_than_without(backbone: Backbone, dtype: torch.dtype) -> None:
    """Mean error of log-probabilities against 32 bits, in a mixed batch and alone, within twice the stock rows' own."""
    narrow = Backbone(eager_twin(backbone, dtype=dtype), backbone.tokenizer, name="narrow")
    cases = [[row for row, _ in mixed_rows(each)] for each in (backbone, narrow)]

    def found(rows: Sequence[BatchRow], each: Backbone) -> Tensor:
        return decoded(each, rows).float().log_softmax(-1)

    exact, together = found(cases[0], backbone), found(cases[1], narrow)
    bare = [BatchRow(row.ids) for row in cases[0]]
    own = float((found(bare, narrow) - found(bare, backbone)).abs().mean())
    assert 0 < float((together - exact).abs().mean()) < 2 * own < {torch.bfloat16: 0.03, torch.float16: 0.006}[dtype]
    alone = torch.cat([found([row], narrow) for row in cases[1]], dim=1)
    assert float((together - alone).abs().mean()) < own


@pytest.mark.parametrize("heads", FALCON_HEADS)
def test_falcons_other_heads_hold_too(heads: str) -> None:
    """The family's own model shares one head of keys; larger ones have groups, older ones as many as queries."""
    test_a_row_in_any_batch_is_the_row_alone_and_the_full_forward(falcon(heads))


def test_the_oracle_knows_the_stock_model() -> None:
    """The full forward that the laws lean on is the stock forward where no patch is on."""
    for family in ("llama", *SLIDING):
        backbone, ids = make_backbone(family), some_ids(20, seed=13)
        assert_near(full_forward(backbone, ids), backbone.model(torch.tensor([ids])).logits[0])
