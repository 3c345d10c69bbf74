"""PEFT opens a patch folder as it is, and computes what prepending the embeddings computes."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from patchlab.errors import PatchFormatError
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


def trained(llama: LlamaForCausalLM, folder: Path, **more: Any) -> Path:
    """What PEFT saves of prompt tuning on this model."""
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, **more)
    model = peft.get_peft_model(copy.deepcopy(llama), config)
    model.save_pretrained(str(folder))
    return folder


@torch.inference_mode()
def test_what_peft_saved_is_a_patch_and_computes_the_same(llama: LlamaForCausalLM, manifest: Manifest, tmp_path: Path) -> None:
    torch.manual_seed(4)
    folder = trained(llama, tmp_path / "theirs")
    with pytest.raises(PatchFormatError, match=r"a PEFT adapter and no patch\.json.*Patch\.from_peft"):
        Patch.from_pretrained(folder)
    patch = Patch.from_peft(folder, base=manifest.base, name="calm", domain="toxicity")
    assert (patch.manifest.length, patch.manifest.width, patch.manifest.base) == (5, 32, manifest.base)
    ours = patch.save_pretrained(tmp_path / "ours")
    assert Patch.from_pretrained(ours).prefix.tobytes() == patch.prefix.tobytes()
    ids = torch.tensor([[1, 5, 9, 33, 60, 2]])
    logits = [peft.PeftModel.from_pretrained(copy.deepcopy(llama), str(each)).eval()(
        input_ids=ids, attention_mask=torch.ones_like(ids)).logits for each in (folder, ours)]
    assert torch.equal(*logits)


def test_another_adapter_is_no_patch(llama: LlamaForCausalLM, manifest: Manifest, tmp_path: Path) -> None:
    def read(folder: Path) -> Patch:
        return Patch.from_peft(folder, base=manifest.base, name="calm", domain="toxicity")

    lora = peft.get_peft_model(copy.deepcopy(llama), peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    lora.save_pretrained(str(tmp_path / "lora"))
    with pytest.raises(PatchFormatError, match="has peft_type 'LORA'; expected 'PROMPT_TUNING'"):
        read(tmp_path / "lora")
    with pytest.raises(PatchFormatError, match=r"no adapter_config\.json"):
        read(tmp_path / "absent")
    folder = trained(llama, tmp_path / "theirs")
    config = json.loads((folder / "adapter_config.json").read_text())
    for change in ({"num_virtual_tokens": 10**9}, {"token_dim": "32"}, {"num_virtual_tokens": 6},
                   {"num_transformer_submodules": 2}):
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(PatchFormatError, match="|".join([*change, "shape"])):
            read(folder)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(PatchFormatError, match="manifest field name"):
        Patch.from_peft(folder, base=manifest.base, name="Not A Name", domain="toxicity")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PatchFormatError, match="pickled weights only"):
        read(folder)
