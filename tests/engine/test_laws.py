"""The laws of patches as attention masks, held on logits, for every family, against forwards without bank or cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from made_models import (
    FAMILIES,
    SLIDING,
    WINDOW,
    byte_level,
    eager_twin,
    full_forward,
    make_backbone,
    make_model,
    make_patch,
    some_ids,
)
from torch import Tensor
from transformers import DynamicCache

from patchlab.engine import Bank, compile_prefix, normalised
from patchlab.engine.decode import Batch, Part, Row
from patchlab.engine.likelihood import pad_texts, reply_logits, reply_logprobs
from patchlab.models import Backbone
from patchlab.models.architectures import TESTED

ATOL = 1e-5
MORE = some_ids(12, seed=99)  # what the rows go on with


def prefix_of(backbone: Backbone, name: str, length: int) -> Tensor:
    return torch.tensor(make_patch(backbone, name, length=length).prefix)


def decoded(backbone: Backbone, rows: Sequence[Row], more: Sequence[int] = MORE) -> Tensor:
    """Logits [steps, B, V] of a batch that reads its prompts and then the same tokens in every row."""
    batch = Batch(backbone, rows, room=len(more) + 1)
    return torch.stack([batch.prefill(), *(batch.step([token] * len(rows)) for token in more)])


def assert_near(got: Tensor, expected: Tensor, *, atol: float = ATOL) -> None:
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


@torch.no_grad()
def mixed_rows(backbone: Backbone) -> list[tuple[Row, list[tuple[Tensor, float]]]]:
    """Rows of many lengths and stacks, each with the parts as prefixes that the full forward takes."""
    a, b = prefix_of(backbone, "a", 5), prefix_of(backbone, "b", 11)
    sa, sb = compile_prefix(backbone, a), compile_prefix(backbone, b)
    ids = some_ids(24, seed=1)
    stacks = [[], [(sa, a, 1.0)], [(sb, b, 0.5)], [(sa, a, 1.0), (sb, b, 2.0)], []]
    return [(Row(ids[-length:], tuple((segment, strength) for segment, _, strength in stack)),
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
    segment = compile_prefix(backbone, prefix_of(backbone, "a", 5))
    ids = some_ids(9, seed=2)
    off, half, on = (decoded(backbone, [Row(ids, ((segment, strength),))])[:, 0] for strength in (0.0, 0.5, 1.0))
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
    batch, cache = Batch(backbone, [Row(row.tolist()) for row in ids], room=12), DynamicCache()
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
    on = [(compile_prefix(backbone, prefix_of(backbone, name, length)), strength)
          for (name, length), strength in zip(lengths.items(), (1.0, 0.7, 2.0), strict=True)]
    ids = some_ids(10, seed=5)
    first, *others = (decoded(backbone, [Row(ids, order)]) for order in itertools.permutations(on))
    for other in others:
        assert_near(other, first)


@torch.no_grad()
def test_strengths_that_add_up_to_one_make_many_copies_one_patch(backbone: Backbone) -> None:
    segment = compile_prefix(backbone, prefix_of(backbone, "a", 5))
    ids = some_ids(10, seed=5)
    one, many = ((segment, 1.0),), ((segment, 1.0),) * 4
    assert_near(decoded(backbone, [Row(ids, normalised(many))]), decoded(backbone, [Row(ids, one)]))
    assert not torch.allclose(decoded(backbone, [Row(ids, many)]), decoded(backbone, [Row(ids, one)]), atol=100 * ATOL)
    assert normalised(many, 4.0) == many and normalised(one, 2.0) == one and normalised(()) == ()
    assert [strength for _, strength in normalised(((segment, 1.0), (segment, 3.0)), 2.0)] == [0.5, 1.5]


@torch.no_grad()
def test_a_stack_of_one_is_its_embeddings_prepended(backbone: Backbone) -> None:
    """Through the stock forward with its own positions and mask; within the window, where that sees the prefix too."""
    prefix, ids = prefix_of(backbone, "a", 3), some_ids(WINDOW - 3, seed=6)
    embeds = torch.cat([prefix, backbone.model.get_input_embeddings()(torch.tensor(ids))])[None]
    stock = backbone.model(inputs_embeds=embeds).logits[0, 3:]
    row = Row(ids[:1], ((compile_prefix(backbone, prefix), 1.0),))
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
    assert_near(decoded(backbone, [Row(ids[:1], ((segment, 1.0),))], ids[1:])[:, 0], theirs)
    assert weights(backbone) == before


@torch.no_grad()
def test_a_sequence_is_its_embeddings_concatenated(backbone: Backbone) -> None:
    patches = [make_patch(backbone, "a", length=2), make_patch(backbone, "b", length=3)]
    ids = some_ids(WINDOW - 5, seed=8)
    bank = Bank(backbone)
    embeds = torch.cat([*(torch.tensor(patch.prefix) for patch in patches),
                        backbone.model.get_input_embeddings()(torch.tensor(ids))])[None]
    stock = backbone.model(inputs_embeds=embeds).logits[0, 5:]
    in_order = decoded(backbone, [Row(ids[:1], ((bank.segment(patches), 1.0),))], ids[1:])
    assert_near(in_order[:, 0], stock)
    turned = decoded(backbone, [Row(ids[:1], ((bank.segment(patches[::-1]), 1.0),))], ids[1:])
    assert not torch.allclose(turned, in_order, atol=100 * ATOL)


@torch.no_grad()
def test_strength_zero_is_off_and_one_is_as_trained(backbone: Backbone) -> None:
    prefix, other = prefix_of(backbone, "a", 5), prefix_of(backbone, "b", 11)
    segment, second = compile_prefix(backbone, prefix), compile_prefix(backbone, other)
    ids = some_ids(14, seed=9)
    base = decoded(backbone, [Row(ids)])
    assert torch.equal(decoded(backbone, [Row(ids, ((segment, 0.0),))]), base)
    # also where another row keeps the slots in the batch, and beside a part that is on
    assert_near(decoded(backbone, [Row(ids, ((segment, 0.0),)), Row(ids, ((segment, 1.0),))])[:, :1], base)
    assert torch.equal(decoded(backbone, [Row(ids, ((segment, 1.0), (second, 0.0)))]),
                       decoded(backbone, [Row(ids, ((segment, 1.0),))]))
    for strength in (0.25, 1.0, 3.0):  # full_forward adds log(strength) by hand
        got = decoded(backbone, [Row(ids, ((segment, strength),))])[:, 0]
        assert_near(got, full_forward(backbone, [*ids, *MORE], [(prefix, strength)])[len(ids) - 1:])


@torch.no_grad()
def test_strength_two_is_the_patch_twice(backbone: Backbone) -> None:
    """Attention adds exponentials: log(2) on a slot is a second slot like it. Two names may hold one prefix."""
    segment = compile_prefix(backbone, prefix_of(backbone, "a", 5))
    twin = compile_prefix(backbone, prefix_of(backbone, "a", 5))
    ids = some_ids(8, seed=10)
    doubled = decoded(backbone, [Row(ids, ((segment, 2.0),))])
    assert_near(decoded(backbone, [Row(ids, ((segment, 1.0), (twin, 1.0)))]), doubled)
    assert_near(decoded(backbone, [Row(ids, ((segment, 1.0), (segment, 1.0)))]), doubled)


@pytest.mark.parametrize("family", SLIDING)
@torch.no_grad()
def test_far_beyond_the_window_the_bank_stays_and_text_leaves(family: str) -> None:
    """One sliding layer, so that what is outside the window cannot come in through the layer before."""
    backbone = one_layer(family)
    segment = compile_prefix(backbone, prefix_of(backbone, "a", 11))
    ids, other = some_ids(3 * WINDOW, seed=11), some_ids(WINDOW, seed=12)

    def last(tokens: Sequence[int], parts: tuple[Part, ...]) -> Tensor:
        return decoded(backbone, [Row(tokens[:4], parts), Row(tokens[:2])], tokens[4:])[-1, 0]

    with_patch = last(ids, ((segment, 1.0),))
    assert not torch.allclose(with_patch, last(ids, ()), atol=1000 * ATOL)  # seen from 13 beyond the window
    changed = [*other, *ids[WINDOW:]]
    assert_near(last(changed, ((segment, 1.0),)), with_patch)  # text from 16 back is out of sight
    edge = [*ids[:-WINDOW], other[0], *ids[-WINDOW + 1:]]  # the last token that the window holds
    assert not torch.allclose(last(edge, ((segment, 1.0),)), with_patch, atol=100 * ATOL)


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

    def found(rows: Sequence[Row], each: Backbone) -> Tensor:
        return decoded(each, rows).float().log_softmax(-1)

    exact, together = found(cases[0], backbone), found(cases[1], narrow)
    bare = [Row(row.ids) for row in cases[0]]
    own = float((found(bare, narrow) - found(bare, backbone)).abs().mean())
    assert 0 < float((together - exact).abs().mean()) < 2 * own < {torch.bfloat16: 0.03, torch.float16: 0.006}[dtype]
    alone = torch.cat([found([row], narrow) for row in cases[1]], dim=1)
    assert float((together - alone).abs().mean()) < own


@torch.no_grad()
def test_given_replies_have_the_logits_of_decoding(backbone: Backbone) -> None:
    """`reply_logits`, padded right, equals the batch, padded left, and the full forward."""
    prefix, other = prefix_of(backbone, "a", 5), prefix_of(backbone, "b", 11)
    parts = [(compile_prefix(backbone, prefix), 0.5), (compile_prefix(backbone, other), 1.0)]
    pairs = [(some_ids(n, seed=n), some_ids(m, seed=n + 50)) for n, m in ((13, 4), (3, 9), (8, 1))]
    for on, full in ((parts, [(prefix, 0.5), (other, 1.0)]), ([(parts[0][0], 0.0)], []), ([], [])):
        texts = pad_texts(backbone, pairs)
        logits = reply_logits(backbone, texts, on)
        for k, (prompt, reply) in enumerate(pairs):
            mine = logits[texts.rows == k]
            assert_near(mine, full_forward(backbone, [*prompt, *reply], full)[len(prompt) - 1:-1])
            assert_near(mine, decoded(backbone, [Row(prompt, tuple(on))], reply[:-1])[:, 0])
        if not full:
            assert torch.equal(logits, reply_logits(backbone, texts))  # off is off to the bit
        assert texts.targets.tolist() == [token for _, reply in pairs for token in reply]
        summed = [logits[texts.rows == k].log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum()
                  for k, (_, reply) in enumerate(pairs)]
        assert_near(reply_logprobs(logits, texts), torch.stack(summed), atol=1e-4)


def test_gradients_reach_the_prefix_as_through_full_embeddings(backbone: Backbone,
                                                               weights: Callable[[Backbone], str]) -> None:
    before = weights(backbone)
    pairs = [(some_ids(n, seed=n), some_ids(6, seed=n + 50)) for n in (11, 4)]
    texts = pad_texts(backbone, pairs)
    frozen = compile_prefix(backbone, prefix_of(backbone, "b", 7))
    through_bank = prefix_of(backbone, "a", 5).requires_grad_()
    logits = reply_logits(backbone, texts, [(compile_prefix(backbone, through_bank), 0.5), (frozen, 1.0)])
    (-reply_logprobs(logits, texts).mean() / 6).backward()

    through_text = prefix_of(backbone, "a", 5).requires_grad_()
    losses = []
    for prompt, reply in pairs:
        full = full_forward(backbone, [*prompt, *reply], [(through_text, 0.5), (prefix_of(backbone, "b", 7), 1.0)])
        losses.append(torch.nn.functional.cross_entropy(full[len(prompt) - 1:-1], torch.tensor(reply)))
    torch.stack(losses).mean().backward()
    assert through_bank.grad is not None and through_text.grad is not None
    assert float(through_bank.grad.abs().max()) > 100 * ATOL
    assert_near(through_bank.grad, through_text.grad)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert weights(backbone) == before


@pytest.mark.parametrize("own", [{"new_decoder_architecture": True, "num_kv_heads": 2}, {"multi_query": False}],
                         ids=["grouped", "full"])
def test_falcons_other_heads_hold_too(own: dict[str, object]) -> None:
    """The family's own model shares one head of keys; larger ones have groups, older ones as many as queries."""
    backbone = Backbone(make_model("falcon", vocabulary=len(byte_level()), **own), byte_level(), name="falcon")
    test_a_row_in_any_batch_is_the_row_alone_and_the_full_forward(backbone)
    test_given_replies_have_the_logits_of_decoding(backbone)


def test_the_oracle_knows_the_stock_model() -> None:
    """The full forward that the laws lean on is the stock forward where no patch is on."""
    for family in ("llama", *SLIDING):
        backbone, ids = make_backbone(family), some_ids(20, seed=13)
        assert_near(full_forward(backbone, ids), backbone.model(torch.tensor([ids])).logits[0])
