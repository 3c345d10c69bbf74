"""The architectures that patches are tested on; any other raises an error that names it."""

from __future__ import annotations

from typing import Any

from patchlab.errors import ModelError

# tests/engine/test_laws.py checks these; on any other a patch could silently give wrong results
TESTED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "phi3", "opt", "granite",
          "granitemoehybrid", "stablelm", "olmo2", "cohere", "falcon")
ATTENTION = {"full_attention", "sliding_attention", "attention"}  # "attention": the name in older configs
# families with recurrent layers, of which only the dense members of granitemoehybrid have attention in every layer
RECURRENT = {"mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "zamba", "zamba2", "falcon_h1", "nemotron_h", "granitehybrid",
             "lfm2", "lfm2_moe", "recurrent_gemma", "rwkv", "rwkv6", "rwkv7", "xlstm", "qwen3_next", "qwen35", "plamo2",
             "kimi_linear", "minimax", "olmo_hybrid", "olmo3_hybrid"}
# those of TESTED that transformers reads from a GGUF file, by their names in it
GGUF_NAMES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "phi3", "stablelm", "falcon")
NEEDED = "attention in every layer: a patch is keys and values, and a recurrent layer (Mamba, RWKV, linear attention) has none"


def check_architecture(config: Any) -> None:
    """Raise ModelError for an architecture that patches cannot be used with, or have not been tested on."""
    kind = str(getattr(config, "model_type", ""))[:80]
    other = sorted({*map(str, getattr(config, "layer_types", None) or ())} - ATTENTION)
    if any(getattr(config, f"{part}_config", None) for part in ("text", "vision", "audio")):
        raise ModelError(f"multimodal architecture {kind!r}", expected=f"a text model, one of: {', '.join(TESTED)}",
                         do="save its language model by itself and load that")
    if getattr(config, "alibi", False):
        raise ModelError(f"architecture {kind!r} with ALiBi", expected="positions encoded in the keys, not as an attention bias",
                         do="choose a model with rotary or learned position embeddings")
    layers = f" with layers of {', '.join(other)[:120]}" if other else ""
    if kind in RECURRENT or (kind == "granitemoehybrid" and other):
        raise ModelError(f"hybrid architecture {kind!r}{layers}", expected=NEEDED,
                         do="choose a dense model of the family, for example granite-4.0-350m in place of granite-4.0-h-350m")
    experts: Any = getattr(config, "num_local_experts", None)
    if kind == "granitemoehybrid" and experts:
        raise ModelError(f"architecture {kind!r} with {experts} experts", expected="a dense member of the family",
                         do="choose granite-4.0-350m, granite-4.0-1b or granite-4.0-micro")
    if kind not in TESTED or other:
        raise ModelError(f"architecture {kind!r}{layers}", expected=f"one of: {', '.join(TESTED)}, every layer with attention",
                         do="choose a model of a tested family; patches need attention in every layer")


def check_gguf(kind: str, *, name: str) -> None:
    """Raise ModelError for a GGUF file whose architecture patches cannot be used with, or that cannot be read from GGUF."""
    if kind.replace("-", "_") in RECURRENT:
        raise ModelError(f"hybrid architecture {kind!r} in {name}", expected=NEEDED, do="choose a model without recurrent layers")
    if kind not in GGUF_NAMES:
        raise ModelError(f"architecture {kind[:80]!r} in {name}", expected=f"one of: {', '.join(GGUF_NAMES)}",
                         do="load the model's safetensors files, if its family is tested")
