"""Which architectures can carry a patch; the others are refused by name."""

from __future__ import annotations

from typing import Any

from patchlab.errors import ModelError

# Families whose laws are tested (tests/engine/test_laws.py); others are refused rather than answered wrongly.
TESTED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "phi3", "opt", "granite",
          "stablelm", "olmo2", "cohere", "falcon")
ATTENTION = {"full_attention", "sliding_attention"}


def check_architecture(config: Any) -> None:
    """Raise ModelError for an architecture whose attention cannot carry a patch, or was never tested to."""
    kind = str(getattr(config, "model_type", ""))[:80]
    other = sorted({*map(str, getattr(config, "layer_types", None) or ())} - ATTENTION)
    if any(getattr(config, f"{part}_config", None) for part in ("text", "vision", "audio")):
        raise ModelError(f"multimodal architecture {kind!r}", expected=f"a text model, one of: {', '.join(TESTED)}",
                         do="load the language model that it wraps, saved by itself")
    if getattr(config, "alibi", False):
        raise ModelError(f"architecture {kind!r} with ALiBi", expected="positions in the keys, not in the attention mask",
                         do="choose a model with rotary or learned positions")
    if kind not in TESTED or other:
        layers = f" with layers of {', '.join(other)[:120]}" if other else ""
        raise ModelError(f"architecture {kind!r}{layers}", expected=f"one of: {', '.join(TESTED)}, every layer with attention",
                         do="choose a model of a tested family; patches need attention over keys with positions")
