"""PEFT opens a patch folder as it is, and computes what prepending the embeddings computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from patchlab.patches import Curve, Gate, Manifest, Patch, Point

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    """Two seeded layers of width 32 with grouped heads."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(params=["plain", "with gate and curve"])
def patch(manifest: Manifest, request: pytest.FixtureRequest) -> Patch:
    prefix = np.random.default_rng(3).standard_normal((5, 32)).astype(np.float32)
    more = {} if request.param == "plain" else {"gate": Gate(1, prefix[0], 0.5), "curve": Curve((Point(1.0, ()),))}
    return Patch(dataclasses.replace(manifest, length=5, width=32), prefix, **more)


def test_peft_reads_the_config(patch: Patch, tmp_path: Path) -> None:
    config = peft.PeftConfig.from_pretrained(str(patch.save_pretrained(tmp_path / "p")))
    assert isinstance(config, peft.PromptTuningConfig)
    assert (config.num_virtual_tokens, config.token_dim, config.task_type) == (5, 32, "CAUSAL_LM")
    assert (config.base_model_name_or_path, config.revision) == ("example/base", "main")


@torch.inference_mode()
def test_pefts_forward_is_the_prepended_embeddings(
        patch: Patch, llama: LlamaForCausalLM, tmp_path: Path) -> None:
    ids = torch.tensor([[1, 5, 9, 33, 60, 2], [3, 3, 8, 12, 63, 7]])
    text = llama.get_input_embeddings()(ids)  # [B, T, D]
    prefix = torch.tensor(patch.prefix).expand(2, -1, -1)  # [B, P, D]
    expected = llama(inputs_embeds=torch.cat([prefix, text], dim=1)).logits
    base = llama(input_ids=ids).logits

    model = peft.PeftModel.from_pretrained(llama, str(patch.save_pretrained(tmp_path / "p"))).eval()
    got = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(got[:, 5:], base, atol=1e-3)
    loaded = model.prompt_encoder["default"].embedding.weight
    assert loaded.numpy().tobytes() == patch.prefix.tobytes()
