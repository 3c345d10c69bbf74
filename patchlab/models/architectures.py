"""Which architectures can carry a patch; the others are refused by name."""

from __future__ import annotations

from typing import Any

from patchlab.errors import ModelError

# Families whose laws are tested (tests/engine/test_laws.py); others are refused rather than answered wrongly.
TESTED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "phi3", "opt", "granite",
          "stablelm", "olmo2", "cohere", "falcon")


def check_architecture(config: Any) -> None:
    """Raise ModelError for an architecture whose attention cannot carry a patch, or was never tested to."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "alibi", False):
        raise ModelError(f"architecture {config.model_type!r} with ALiBi", expected="positions in the keys, not in the mask",
                         do="choose a model with rotary or learned positions; a patch and the text behind it have places of "
                            "their own")
    if config.model_type not in TESTED or not kinds <= {"full_attention", "sliding_attention"}:
        raise ModelError(f"architecture {config.model_type!r}", expected=f"one of: {', '.join(TESTED)}",
                         do="choose a model of a tested family; patches need attention over keys with positions")
