"""The architectures that patches are tested on; any other raises an error that names it."""

from __future__ import annotations

from typing import Any

from patchlab.errors import ModelError

# tests/engine/test_laws.py checks these; on any other a patch could silently give wrong results
TESTED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "phi3", "opt", "granite",
          "stablelm", "olmo2", "cohere", "falcon")
ATTENTION = {"full_attention", "sliding_attention"}


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
    if kind not in TESTED or other:
        layers = f" with layers of {', '.join(other)[:120]}" if other else ""
        raise ModelError(f"architecture {kind!r}{layers}", expected=f"one of: {', '.join(TESTED)}, every layer with attention",
                         do="choose a model of a tested family; patches need attention in every layer")
