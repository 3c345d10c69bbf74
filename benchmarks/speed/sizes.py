"""The models that are timed: the pocket pair, and Llama shapes with seeded random weights made where they are to run.

All read text with the pocket tokenizer. None of them ever ends a reply: every side of a race writes as many tokens.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from patchlab.models import Backbone, load_backbone, preset
from patchlab.models.cpu_kernels import pack
from patchlab.patches import Manifest, Patch
from patchlab.records import Prompt

PROMPT = Prompt("Tell me how the old harbour town keeps its boats dry in winter, and who pays for the work.")
LENGTH = 50  # P, as in the paper


def _llama(width: int, inner: int, layers: int, heads: int, shared: int, words: int, **own: Any) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": shared, "vocab_size": words, "max_position_embeddings": 4096, **own}


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("llama", _llama(64, 128, 2, 4, 4, 4096, tie_word_embeddings=True)),
    # weights drawn wide, so that what a token sees shows in its logits
    "sliding": ("mistral", _llama(64, 96, 2, 4, 2, 4096, tie_word_embeddings=True, sliding_window=64, initializer_range=0.2)),
    "120M": ("llama", _llama(768, 2432, 12, 12, 12, 32_000, tie_word_embeddings=True)),
    "Qwen2.5-0.5B": ("qwen2", _llama(896, 4864, 24, 14, 2, 151_936, tie_word_embeddings=True)),
    "Llama-2-7B": ("llama", _llama(4096, 11_008, 32, 32, 32, 32_000, tie_word_embeddings=False)),
    "Llama-3-8B": ("llama", _llama(4096, 14_336, 32, 32, 8, 128_256, tie_word_embeddings=False)),
}


def made(shape: str, *, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32, **changed: Any) -> Backbone:
    """A backbone of this shape, some options of its config changed, with seeded random weights drawn on the device itself."""
    family, options = SHAPES[shape]
    config = CONFIG_MAPPING[family](**options | changed, bos_token_id=1, eos_token_id=2, pad_token_id=3)
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(preset("pocket").source("base"))
    return endless(Backbone(model, tokenizer, name=f"{shape}-{seed}"))


def pair(size: str) -> tuple[Backbone, Backbone]:
    """Base and reference of a size, on the CPU in 32 bits, as the library has them."""
    if size != "pocket":
        return made(size), made(size, seed=1)
    first, second = (endless(load_backbone(preset("pocket").source(lane), device="cpu", kernels=False))
                     for lane in ("base", "reference"))
    return first, second


def endless(backbone: Backbone) -> Backbone:
    """The backbone, which from now on ends no reply."""
    backbone.stops = frozenset()
    backbone.model.generation_config.eos_token_id = backbone.model.config.eos_token_id = None
    return backbone


def patches(backbone: Backbone, count: int, *, length: int = LENGTH) -> list[Patch]:
    """Patches with seeded random embeddings of the size the base's own have: what they do matters to no clock."""
    scale = float(backbone.embeddings[:4096].float().std())
    made_now = []
    for k in range(count):
        prefix = (scale * np.random.default_rng(k).standard_normal((length, backbone.width))).astype(np.float32)
        manifest = Manifest(name=f"made-{k}", version="1.0.0", title=f"Made {k}", summary="Seeded noise, for timing.",
                            domain="toxicity", base=backbone.identity, reference="none", length=length,
                            width=backbone.width, licence="Apache-2.0")
        made_now.append(Patch(manifest, prefix))
    return made_now


def served(backbone: Backbone) -> Backbone:
    """The backbone as loading one makes it: on a CPU a copy whose layers are packed, beside the stock one that others run."""
    if backbone.device.type != "cpu":
        return backbone
    made_now = Backbone(copy.deepcopy(backbone.model), backbone.tokenizer, name=backbone.name)
    pack(made_now.model)
    return endless(made_now)


def prompt_tuned(backbone: Backbone, some: list[Patch]) -> PeftModel:
    """The same prefixes the way PEFT runs them, one adapter a patch named after it; the base's weights are shared."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=some[0].manifest.length)
    wrapped = get_peft_model(backbone.model, config, adapter_name=some[0].manifest.name)
    for patch in some[1:]:
        wrapped.add_adapter(patch.manifest.name, config)
    with torch.no_grad():
        for patch in some:
            table = wrapped.prompt_encoder[patch.manifest.name].embedding.weight
            table.copy_(torch.from_numpy(patch.prefix.copy()))
    wrapped.set_adapter(some[0].manifest.name)
    return wrapped.eval().requires_grad_(False)


def generate(model: Any, backbone: Backbone, prompt: Prompt, *, tokens: int, kept: DynamicCache | None = None) -> torch.Tensor:
    """The library's own way to a reply of so many tokens, drawn at temperature 0.8, behind keys and values that are `kept`.

    It counts these as tokens, so that the text behind several patches stands further away than the engine has it.
    """
    ids = torch.tensor([backbone.encode(prompt)], device=backbone.device)
    if kept is not None:
        ids = torch.cat([ids[:, :1].expand(-1, kept.get_seq_length()), ids], dim=1)
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.8, top_k=0,
                          max_new_tokens=tokens, pad_token_id=3, past_key_values=kept)


class Bare:
    """A model called step by step with the library's own cache and nothing around it: what a step costs at the least.

    `ids` [B, T] are read at once; then each call reads one token a row.
    """

    def __init__(self, model: Any, ids: torch.Tensor) -> None:
        self.model, self.token, self.cache = model, ids[:, -1:], DynamicCache()
        with torch.no_grad():
            model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        """The logits [B, 1, V] after one more token."""
        return self.model(input_ids=self.token, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits
