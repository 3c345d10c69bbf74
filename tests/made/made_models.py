"""Tiny seeded backbones of every tested family, tokenizers built in code, and patches made for them."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from patchlab.models import Backbone
from patchlab.patches import BaseIdentity, Gate, Manifest, Patch

WINDOW = 8
CONTEXT = 96
LETTERS = " !',.?abcdefghijklmnopqrstuvwxyz"
TEMPLATE = ("{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}")

# What a family's config needs beyond the common sizes. Weights are drawn wide, so that a wrong position or a slot too
# many changes logits by far more than the tolerance.
COMMON: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                          "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.2,
                          "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2}
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"sliding_window": WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0,
               "attn_implementation": "eager"},
    "gpt2": {},
    "gemma3_text": {"sliding_window": WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8,
                    "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {"sliding_window": WINDOW},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2},
    "granite": {"attention_multiplier": 0.35},
    "granitemoehybrid": {"attention_multiplier": 0.35, "layer_types": ["attention", "attention"], "num_local_experts": 0,
                         "num_experts_per_tok": 0, "shared_intermediate_size": 64, "position_embedding_type": "rope",
                         "mamba_n_heads": 4},  # without any Mamba layer or expert: the dense Granite 4.0
    "stablelm": {},
    "olmo2": {},
    "cohere": {"logit_scale": 1.0},
    "falcon": {"ffn_hidden_size": 48},
    "bloom": {"attn_implementation": "eager"},
}
SLIDING = ("mistral", "gemma2", "gemma3_text", "phi3")
FAMILIES = tuple(family for family in OWN if family != "bloom")
# Falcon's own model shares one head of keys; larger ones have groups, older ones as many as queries.
FALCON_HEADS: dict[str, dict[str, Any]] = {"grouped": {"new_decoder_architecture": True, "num_kv_heads": 2},
                                           "full": {"multi_query": False}}


def make_model(family: str, *, vocabulary: int, seed: int = 0, attention: str | None = None, **own: Any) -> Any:
    """A seeded model of two layers and width 32."""
    torch.manual_seed(seed)
    options = {**COMMON, "vocab_size": vocabulary, **OWN[family], **own}
    attention = attention or options.pop("attn_implementation", "sdpa")
    options.pop("attn_implementation", None)
    config = CONFIG_MAPPING[family](**options)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@functools.cache
def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 259 tokens or so with a chat template; one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {mark: k for k, mark in enumerate(["<|end|>", "<|turn|>", "<|pad|>", *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>",
                                        additional_special_tokens=["<|turn|>"])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@functools.cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """A metaspace tokenizer as Llama 2 has: letters, a word or two, and bytes for whatever else; no chat template."""
    marks = ["</s>", "<s>", "<unk>", *(f"<0x{k:02X}>" for k in range(256)), "▁", *LETTERS[1:], "▁t", "▁th", "▁the"]
    inner = Tokenizer(models.BPE(vocab={mark: k for k, mark in enumerate(marks)}, unk_token="<unk>", byte_fallback=True,
                                 merges=[("▁", "t"), ("▁t", "h"), ("▁th", "e")]))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                       decoders.Strip(" ", 1, 0)])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    inner.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("</s>", "<s>", "<unk>")])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@functools.cache
def make_backbone(family: str, *, seed: int = 0, words: str = "byte_level") -> Backbone:
    """A backbone of this family over one of the tokenizers above; made once a test run, so it must stay as it is."""
    tokenizer = {"byte_level": byte_level, "byte_fallback": byte_fallback}[words]()
    return Backbone(make_model(family, vocabulary=len(tokenizer), seed=seed), tokenizer, name=f"tiny-{family}")


def saved(backbone: Backbone, folder: Path) -> Path:
    """The folder, with model and tokenizer saved in it."""
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return folder


def falcon(heads: str) -> Backbone:
    """A Falcon with other heads of keys, by the names above."""
    return Backbone(make_model("falcon", vocabulary=len(byte_level()), **FALCON_HEADS[heads]), byte_level(), name="falcon")


@torch.no_grad()
def spelling(text: str, *, after: str = "x") -> Backbone:
    """A backbone that says this text, byte by byte, after a prompt that ends in `after`, and then stops; no byte may repeat."""
    ids = byte_level()(after + text, add_special_tokens=False)["input_ids"]
    assert len({*ids}) == len(ids), "each token has one that follows"
    model = make_model("llama", vocabulary=len(byte_level()))
    for layer in model.model.layers:  # they add nothing: a token alone says which comes next
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.lm_head.weight.zero_()
    model.lm_head.weight[[*ids[1:], 0]] = 10 * model.get_input_embeddings().weight[ids]
    return Backbone(model, byte_level(), name="spelling")


def in_doubles(backbone: Backbone) -> Backbone:
    """A copy in 64 bits, in which what a batch does to the order of sums stays far below what tells tokens apart."""
    return Backbone(copy.deepcopy(backbone.model).double(), backbone.tokenizer, name=backbone.name)


def make_patch(backbone: Backbone, name: str, *, length: int, seed: int | None = None, strength: float = 1.0,
               base: BaseIdentity | None = None) -> Patch:
    """A patch with seeded random embeddings as large as the base's own tokens have."""
    seed = sum(name.encode()) if seed is None else seed
    scale = float(backbone.embeddings.detach().std()) * 2
    prefix = (scale * np.random.default_rng(seed).standard_normal((length, backbone.width))).astype(np.float32)
    manifest = Manifest(name=name, version="1.0.0", title=name, summary="A made patch.", domain="toxicity",
                        base=base or backbone.identity, reference="none", length=length, width=backbone.width,
                        licence="Apache-2.0", strength=strength)
    return Patch(manifest, prefix)


def put(patch: Patch, folder: Path, *, gate: Gate | None = None, **changes: Any) -> Patch:
    """Save a patch, with a gate and with changes to its manifest, among the patches of a folder."""
    changed = replace(patch, manifest=replace(patch.manifest, **changes), gate=gate)
    changed.save_pretrained(folder / changed.manifest.folder_name)
    return changed


def some_ids(count: int, *, seed: int, vocabulary: int = 259) -> list[int]:
    """Seeded token ids, none of them special."""
    return np.random.default_rng(seed).integers(3, vocabulary, count).tolist()


def full_forward(backbone: Backbone, ids: Sequence[int],
                 parts: Sequence[tuple[torch.Tensor, float]] = (), *, history: Sequence[int] = ()) -> torch.Tensor:
    """What the engine must equal, in one eager forward without a cache: logits [T, V] of `ids` behind prefixes [P, D].

    Every part sees itself alone from position 0; text sees all of them, log(strength) added, and starts after the
    longest; a sliding layer hides text beyond its window, never a part. Gradients flow to the parts. With a `history` its
    tokens come first from position 0 and see no part, and the parts end where it ends.
    """
    model, config = eager_twin(backbone), backbone.model.config
    text = model.get_input_embeddings()(torch.tensor([[*history, *ids]]))[0]
    lengths = [prefix.shape[0] for prefix, _ in parts]
    longest = max(lengths, default=0)
    before = len(history) - longest if history else 0
    start = 0 if history else longest
    places = [list(range(before, before + length)) for length in lengths]
    places.append(list(range(start, start + len(history) + len(ids))))
    owner = [k for k, each in enumerate(places) for _ in each]
    place = [p for each in places for p in each]
    total, text_owner, hidden = len(place), len(parts), torch.finfo(torch.float32).min

    def mask(window: int | None) -> torch.Tensor:
        table = [[hidden] * total for _ in range(total)]
        for q in range(total):
            for k in range(q + 1):
                if owner[q] == owner[k] and (owner[k] < text_owner or not window or place[q] - place[k] < window):
                    table[q][k] = 0.0
                elif owner[q] == text_owner and owner[k] != text_owner and place[q] >= len(history):
                    table[q][k] = math.log(parts[owner[k]][1])
        return torch.tensor(table)[None, None]

    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    if "sliding_attention" in kinds:
        chosen: Any = {"sliding_attention": mask(window), "full_attention": mask(None)}
    else:
        slides = window and config.model_type in SLIDING
        chosen = mask(window if slides else None)
    embeds = torch.cat([*(prefix for prefix, _ in parts), text])[None]
    out = model(inputs_embeds=embeds, attention_mask=chosen, position_ids=torch.tensor([place]), use_cache=False)
    return out.logits[0, total - len(ids):]


_TWINS: dict[tuple[int, torch.dtype], tuple[Backbone, Any]] = {}


def eager_twin(backbone: Backbone, *, dtype: torch.dtype = torch.float32) -> Any:
    """The same weights with eager attention, rounded to `dtype`."""
    if (id(backbone), dtype) not in _TWINS:
        config = type(backbone.model.config).from_dict(backbone.model.config.to_dict())
        twin = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
        twin.eval().requires_grad_(False)
        twin.load_state_dict(backbone.model.state_dict())
        _TWINS[id(backbone), dtype] = backbone, twin
    return _TWINS[id(backbone), dtype][1]
