"""Low-rank adapters written by PEFT itself, with seeded numbers large enough to change what a model says."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch

from patchlab.models import Backbone, read_adapter, with_adapter

# the layers that are adapted here by family: fused ones and Conv1D where the family has them
TARGETS = {"llama": ("q_proj", "o_proj", "down_proj"), "gpt2": ("c_attn", "c_proj"), "opt": ("k_proj", "out_proj", "fc2"),
           "gpt_neox": ("query_key_value", "dense_4h_to_h"), "phi3": ("qkv_proj", "gate_up_proj", "down_proj"),
           "falcon": ("query_key_value", "dense"), "gemma2": ("v_proj", "up_proj"), "mistral": ("k_proj", "o_proj")}


def save_adapter(backbone: Backbone, folder: Path, *, seed: int = 0, targets: Sequence[str] | str | None = None,
                 **options: Any) -> Any:
    """PEFT's own model with a made adapter, which is saved in the folder; the backbone stays as it is."""
    family = backbone.model.config.model_type
    named = targets if isinstance(targets, str) else [*(targets or TARGETS[family])]
    settings = {"r": 4, "lora_alpha": 8, "target_modules": named, "fan_in_fan_out": family == "gpt2"} | options
    model = peft.get_peft_model(copy.deepcopy(backbone.model), peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=random))
    model.save_pretrained(str(folder))
    return model.requires_grad_(False)


def adapted_of(backbone: Backbone, folder: Path, *, seed: int = 0, **options: Any) -> Backbone:
    """The backbone with a made adapter, through the folder that PEFT has written."""
    save_adapter(backbone, folder, seed=seed, **options)
    return with_adapter(backbone, read_adapter(folder, backbone))
