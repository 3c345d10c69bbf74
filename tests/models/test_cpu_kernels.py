"""Packed layers say what the stock ones say, stay the model that they were, and are left where they do not help."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_batches import segment_of
from made_models import FAMILIES, byte_level, make_backbone, make_model, make_patch, some_ids
from torch import Tensor

from patchlab.engine import StackPlan, compile_prefix
from patchlab.engine.decode import Batch, BatchRow
from patchlab.models import Backbone, cpu_kernels, load_backbone
from patchlab.models.cpu_kernels import PackedLinear, fits_halves, pack

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")


def drawn(family: str, bits: int = 32) -> Backbone:
    """A backbone of stock layers, whose weights are as they would be if they had been published in so many bits."""
    backbone = Backbone(make_model(family, vocabulary=len(byte_level())), byte_level(), name=f"tiny-{family}")
    if bits == 16:
        with torch.no_grad():
            for weight in backbone.model.parameters():
                weight.copy_(weight.bfloat16())
    return backbone


def made(family: str, bits: int = 32) -> Backbone:
    backbone = drawn(family, bits)
    assert pack(backbone.model)
    return backbone


def layers(backbone: Backbone) -> list[PackedLinear]:
    return [layer for layer in backbone.model.modules() if isinstance(layer, PackedLinear)]


def patched(backbone: Backbone, strength: float = 1.0) -> StackPlan:
    return StackPlan.of((segment_of(backbone, "own"), strength))


def logits(backbone: Backbone, *rows: BatchRow) -> Tensor:
    batch = Batch(backbone, rows, room=3)
    return torch.stack([batch.prefill(), batch.step([7] * len(rows)), batch.step([9] * len(rows))])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("count", [1, 2, 17])
def test_logits_are_those_of_the_stock_layers(family: str, bits: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for one row, which small layers leave to the stock product."""
    stock, backbone = drawn(family, bits), made(family, bits)
    linear = sum(type(layer) is torch.nn.Linear for layer in stock.model.modules())
    assert len(layers(backbone)) == linear
    if bits == 32:
        assert not any(layer.halved for layer in layers(backbone))
    elif torch.backends.quantized.engine in ("x86", "fbgemm"):
        assert all(layer.halved for layer in layers(backbone))
    asked = [some_ids(3 + k, seed=k) for k in range(count)]
    for cached in (cpu_kernels.CACHED, 0):
        monkeypatch.setattr(cpu_kernels, "CACHED", cached)
        torch.testing.assert_close(logits(backbone, *(BatchRow(ids, patched(backbone)) for ids in asked)),
                                   logits(stock, *(BatchRow(ids, patched(stock)) for ids in asked)), atol=1e-5, rtol=0)


def test_a_patch_that_is_off_is_the_base_to_the_bit() -> None:
    backbone, rows = made("llama"), [some_ids(9, seed=1), some_ids(4, seed=2)]
    bare = logits(backbone, *(BatchRow(ids) for ids in rows))
    assert torch.equal(logits(backbone, *(BatchRow(ids, patched(backbone, 0.0)) for ids in rows)), bare)
    beside = logits(backbone, BatchRow(rows[0]), BatchRow(rows[1], patched(backbone)))
    torch.testing.assert_close(beside[:, 0], bare[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("spoiled", "halved"), [(3e-6, True), (1e-3, False), (7e4, False), (torch.nan, False)])
def test_weights_that_16_bits_do_not_hold_are_kept_in_32(spoiled: float, halved: bool) -> None:
    """All but one of these are halves; the one is near one, far from one, too large for any, or no number."""
    weight = torch.ones(4, 4)
    weight[2, 1] = spoiled if spoiled > 1 else 1 + spoiled if not halved else spoiled
    if torch.backends.quantized.engine in ("x86", "fbgemm"):
        assert fits_halves(torch.ones(4, 4)) and fits_halves(weight) is halved
    else:
        assert not fits_halves(weight)


def test_it_is_still_that_model() -> None:
    stock, backbone = make_backbone("llama"), made("llama")
    assert backbone.identity == stock.identity
    kept, was = backbone.model.state_dict(), stock.model.state_dict()
    assert kept.keys() == was.keys() and all(torch.equal(kept[name], was[name]) for name in was)
    tied = Backbone(make_model("llama", vocabulary=len(byte_level()), tie_word_embeddings=True), byte_level(), name="tied")
    assert pack(tied.model) and tied.model.lm_head.weight is tied.embeddings


def test_gradients_are_taken_through_the_weights_as_they_are() -> None:
    found = []
    for backbone in (drawn("llama", 16), made("llama", 16)):
        prefix = torch.tensor(make_patch(backbone, "own", length=5).prefix).requires_grad_(True)
        found.append(torch.autograd.grad(compile_prefix(backbone, prefix).values[-1].square().sum(), [prefix])[0])
    assert torch.equal(*found) and found[0].abs().sum() > 0


@pytest.mark.parametrize("bits", [16, 32])
def test_a_copy_packs_its_own_and_other_precisions_take_the_stock_product(bits: int) -> None:
    backbone = made("llama", bits)
    twin = Backbone(copy.deepcopy(backbone.model), byte_level(), name="twin")
    with torch.no_grad():
        for weight in twin.layers.parameters():
            weight.mul_(0.7)
    asked = BatchRow(some_ids(9, seed=1)), BatchRow(some_ids(9, seed=2))
    assert not torch.allclose(logits(twin, *asked), logits(backbone, *asked), atol=1e-3)
    exact = Backbone(copy.deepcopy(backbone.model).double(), byte_level(), name="exact")
    torch.testing.assert_close(logits(exact, *asked).float(), logits(backbone, *asked), atol=1e-5, rtol=0)


def test_loading_packs_where_it_helps_and_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = make_backbone("llama")
    stock.model.save_pretrained(tmp_path)
    stock.tokenizer.save_pretrained(tmp_path)

    def is_packed(dtype: torch.dtype = torch.float32, *, kernels: bool = True) -> bool:
        opened = load_backbone(tmp_path, device="cpu", dtype=dtype, kernels=kernels)
        return bool(layers(opened))

    assert is_packed() and not is_packed(kernels=False) and not is_packed(torch.bfloat16)
    monkeypatch.setattr(cpu_kernels, "LARGEST", 1000)
    assert not is_packed()


@pytest.fixture
def _tried_anew() -> Iterator[None]:
    """What was found out about the products of this process is found out again, before and after."""
    cpu_kernels.works.cache_clear()
    yield
    cpu_kernels.works.cache_clear()


class Gone:
    """A namespace of operators without any."""


@pytest.mark.parametrize("library", ["mkldnn", "quantized"])
@pytest.mark.parametrize("change", ["gone", "differs", "refuses"])
@pytest.mark.usefixtures("_tried_anew")
def test_a_private_product_that_is_gone_or_differs_is_not_used(
        library: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is in torch's public interface, so a later torch may do either."""
    product = "_linear_pointwise" if library == "mkldnn" else "linear_dynamic_fp16"
    if change == "gone":
        monkeypatch.setattr(torch.ops, library, Gone())
    elif change == "differs":
        real = getattr(getattr(torch.ops, library), product)
        monkeypatch.setattr(getattr(torch.ops, library), product, lambda *given: real(*given) + 1e-3)
    else:
        monkeypatch.setattr(getattr(torch.ops, library), product, lambda input: input)
    backbone, stock = drawn("llama", 16), drawn("llama", 16)
    asked = [BatchRow(some_ids(4, seed=1)), BatchRow(some_ids(9, seed=2))]
    assert pack(backbone.model) == (library == "quantized")  # 32 bits are still packed where only the 16-bit product is off
    assert not any(layer.halved for layer in layers(backbone)) and bool(layers(backbone)) == (library == "quantized")
    torch.testing.assert_close(logits(backbone, *asked), logits(stock, *asked), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("_tried_anew")
def test_the_products_are_tried_once_and_draw_no_numbers_of_the_process() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = cpu_kernels.works(halved=True), cpu_kernels.works(halved=False)
    assert (cpu_kernels.works(halved=True), cpu_kernels.works(halved=False)) == found
    assert cpu_kernels.works.cache_info().hits == 2 and torch.equal(torch.get_rng_state(), state)
