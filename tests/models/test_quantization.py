"""A base in 8 or 4 bits holds the engine's laws, keeps its identity and its patches, and is close to what it was."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_batches import segment_of
from made_models import FAMILIES, byte_level, make_backbone, make_model, make_patch, some_ids
from torch import Tensor

from patchlab.engine import BARE, StackPlan
from patchlab.engine.decode import Batch, BatchRow
from patchlab.errors import InputError, MissingExtraError, ModelError
from patchlab.models import Backbone, load_backbone
from patchlab.models.quantization import narrow

pytest.importorskip("bitsandbytes")
# a 4-bit block is 64 weights long
OWN: dict[str, dict[str, int]] = {"opt": {"ffn_dim": 128, "word_embed_proj_dim": 64}, "falcon": {"ffn_hidden_size": 128},
                                  **{family: {"head_dim": 16} for family in ("qwen3", "gemma2", "gemma3_text")}}


@functools.cache
def wide(family: str, bits: int = 0) -> Backbone:
    """A tiny backbone whose layers are wide enough to narrow."""
    options: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, **OWN.get(family, {})}
    made = Backbone(make_model(family, vocabulary=len(byte_level()), **options), byte_level(), name=family)
    if bits:
        narrow(made.model, bits)
    return made


def patched(backbone: Backbone, strength: float = 1.0) -> StackPlan:
    return StackPlan.of((segment_of(backbone, "own"), strength))


def logits(backbone: Backbone, *rows: BatchRow) -> Tensor:
    batch = Batch(backbone, rows, room=2)
    return torch.stack([batch.prefill(), batch.step([7] * len(rows))])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_what_it_is_alone_and_close_to_the_full_base(family: str, bits: int) -> None:
    backbone, full = wide(family, bits), wide(family)
    ids, others = some_ids(9, seed=1), [BatchRow(some_ids(4, seed=3)), BatchRow(some_ids(14, seed=5))]
    for mine, theirs in ((BARE, BARE), (patched(backbone), patched(full))):
        alone = logits(backbone, BatchRow(ids, mine))
        batched = logits(backbone, others[0], BatchRow(ids, mine), others[1])[:, 1:2]
        if bits == 4:
            torch.testing.assert_close(batched, alone, atol=1e-4, rtol=0)
        else:  # activations are rounded to 8 bits, and the last bit of a sum can tip a rounding
            assert (batched - alone).abs().mean() < 0.01 * alone.std()
        was = logits(full, BatchRow(ids, theirs))
        off = (alone - was).abs().mean() / was.std()
        assert 0 < off < (0.15 if bits == 8 else 0.6)
    assert (logits(backbone, BatchRow(ids, patched(backbone))) - logits(backbone, BatchRow(ids))).abs().max() > 0.01
    assert torch.equal(logits(backbone, BatchRow(ids, patched(backbone, 0.0))), logits(backbone, BatchRow(ids)))


@pytest.mark.parametrize(("bits", "most"), [(8, 0.3), (4, 0.2)])
def test_its_layers_take_a_part_of_the_memory_and_embeddings_stay(bits: int, most: float) -> None:
    def taken(backbone: Backbone) -> int:
        return sum(w.numel() * w.element_size() for w in backbone.layers.parameters() if w.dim() > 1)

    backbone, full = wide("llama", bits), wide("llama")
    assert taken(backbone) < most * taken(full)
    assert torch.equal(backbone.embeddings, full.embeddings) and backbone.dtype == full.dtype


@pytest.mark.parametrize("bits", [8, 4])
def test_a_folder_opened_in_few_bits_is_still_that_base(bits: int, tmp_path: Path) -> None:
    full = wide("llama")
    full.model.save_pretrained(tmp_path / "base")
    full.tokenizer.save_pretrained(tmp_path / "base")
    opened = load_backbone(tmp_path / "base", device="cpu", bits=bits)
    assert opened.bits == bits and full.bits is None
    assert opened.identity.fingerprint == full.identity.fingerprint
    opened.check_patch(make_patch(full, "own", length=5).manifest.base, patch="own")
    assert torch.equal(logits(opened, BatchRow(some_ids(6, seed=1))), logits(wide("llama", bits), BatchRow(some_ids(6, seed=1))))


def test_what_cannot_be_narrowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="3 bits; expected 8 or 4"):
        narrow(wide("llama").model, 3)
    with pytest.raises(ModelError, match="that are not quantised"):
        narrow(wide("llama", 8).model, 8)
    with pytest.raises(ModelError, match="32 x 32; expected widths that are multiples of 64 and 32"):
        narrow(make_backbone("llama").model, 4)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match="pip install bitsandbytes"):
        narrow(wide("llama").model, 8)
