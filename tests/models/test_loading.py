"""Loading: folders, GGUF files and loaded models become bases, and nothing else is changed by it."""

from __future__ import annotations

import copy
import importlib.util
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_gguf import write_gguf
from made_models import CONTEXT, byte_level, make_backbone, make_model, make_patch, saved, some_ids
from transformers.utils import logging as hf_logging

from patchlab.errors import InputError, MissingExtraError, ModelError, PatchLabError
from patchlab.models import Backbone, cpu_kernels, load_backbone, wrap
from patchlab.models.loading import quiet
from patchlab.models.quantization import quantized_bits
from patchlab.records import Prompt


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gemma2"])
def test_a_saved_model_loads_as_the_same_base(family: str, tmp_path: Path) -> None:
    made = make_backbone(family)
    loaded = load_backbone(saved(made, tmp_path / "tiny"), device="cpu")
    assert loaded.fingerprints == made.fingerprints and loaded.name == "tiny"
    assert (loaded.identity.tokenizer_digest, loaded.identity.template_digest) == (
        made.identity.tokenizer_digest, made.identity.template_digest)
    assert loaded.dtype == torch.float32 and (loaded.width, loaded.context) == (32, CONTEXT)
    ids = torch.tensor([some_ids(20, seed=0)])
    torch.testing.assert_close(loaded.model(ids).logits, made.model(ids).logits, atol=1e-5, rtol=0)
    loaded.check_patch(make_patch(made, "a", length=2).manifest.base, patch="a")
    assert loaded.encode(Prompt("hi")) == made.encode(Prompt("hi")) and loaded.bits is None
    assert loaded.model.config._attn_implementation == ("eager" if family == "gemma2" else "sdpa")  # eager caps scores


def test_dtype_and_device_map_pass_through(folder: Path, llama: Backbone) -> None:
    half = load_backbone(folder, dtype=torch.bfloat16, device_map={"": "cpu"})
    assert half.dtype == torch.bfloat16 and half.fingerprints == llama.fingerprints
    parts = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    ids = torch.tensor([some_ids(9, seed=1)])
    for given in (parts, "auto"):
        spread = load_backbone(folder, device_map=given, dtype=torch.float32)
        torch.testing.assert_close(spread.model(ids.to(spread.device)).logits.cpu(), llama.model(ids).logits, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="leave out the other"):
        load_backbone(folder, device="cpu", device_map="auto")


def test_a_layer_that_is_left_on_disk_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="layers on disk"):
        load_backbone(folder, device_map={"": "cpu", "model.layers": "disk"})
    model = make_model("llama", vocabulary=len(byte_level()))
    model.model.layers.to("meta")
    with pytest.raises(ModelError, match="weights of mine that are not in memory"):
        wrap(model, byte_level(), name="mine")


def test_a_folder_is_called_by_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_backbone(".", device="cpu").name == load_backbone(Path("../tiny"), device="cpu").identity.id == "tiny"


def test_a_checkpoint_saved_in_few_bits_says_so(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    wide = make_model("llama", vocabulary=len(byte_level()), hidden_size=64, intermediate_size=128)
    plain = Backbone(wide, byte_level(), name="a")
    saved(plain, tmp_path / "plain")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", device_map="cpu",
                                                     quantization_config=BitsAndBytesConfig(load_in_4bit=True))
        model.save_pretrained(tmp_path / "four")
    plain.tokenizer.save_pretrained(tmp_path / "four")
    loaded = load_backbone(tmp_path / "four", device="cpu")
    assert loaded.bits == 4 and not loaded.same_base(plain.identity)
    assert loaded.model(torch.tensor([some_ids(9, seed=1)])).logits.isfinite().all()
    assert wrap(model, byte_level(), name="b").bits == 4
    with pytest.raises(InputError, match="8 bits for a model that is saved in 4"):
        load_backbone(tmp_path / "four", device="cpu", bits=8)


@pytest.mark.parametrize(("held", "bits"), [({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
                                            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4)])
def test_bits_are_read_from_the_config(held: dict[str, Any], bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    assert quantized_bits(held) == bits
    with pytest.raises(ModelError, match="quantised by 'None'"):
        quantized_bits({"bits": 4})


def test_a_gguf_file_is_a_base(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny-f32.gguf")
    ids = torch.tensor([some_ids(9, seed=1)])
    for source in (tmp_path, tmp_path / "tiny-f32.gguf"):
        loaded = load_backbone(source, device="cpu")
        assert loaded.name == "tiny-f32" and loaded.bits is None
        torch.testing.assert_close(loaded.model(ids).logits, model(ids).logits, atol=1e-5, rtol=0)
    assert loaded.tokenizer.decode(loaded.encode(Prompt("hi"))) == "<|turn|>user\nhi<|end|>\n<|turn|>assistant\n"
    again = load_backbone(saved(loaded, tmp_path / "saved"), device="cpu")
    assert again.fingerprints == loaded.fingerprints and again.same_base(loaded.identity)
    half = load_backbone(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert half.identity.fingerprint == loaded.identity.fingerprint


def test_a_gguf_file_that_is_none_or_that_nothing_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(60))
    (tmp_path / "model.safetensors.txt").write_text("x")
    with pytest.raises(ModelError, match="it is a file, but not a GGUF file"):
        load_backbone(tmp_path / "model.safetensors.txt")
    if importlib.util.find_spec("gguf"):
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_backbone(tmp_path / "broken.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install gguf==0.19.0")):
        load_backbone(tmp_path / "broken.gguf")


def test_a_wrapped_model_stays_as_it_was() -> None:
    model = make_model("llama", vocabulary=len(byte_level()), tie_word_embeddings=True).train()
    model.lm_head.weight.requires_grad_(False)
    model.config._attn_implementation = "eager"
    ids, kinds = torch.tensor([some_ids(9, seed=1)]), [type(module) for module in model.modules()]
    before = {name: (weight.requires_grad, weight.clone()) for name, weight in model.named_parameters()}
    backbone = wrap(model, byte_level(), name="mine")
    assert backbone.fingerprints == (backbone.identity.fingerprint, make_copy(model).fingerprints[1])
    assert not backbone.model.training and not any(weight.requires_grad for weight in backbone.model.parameters())
    assert backbone.model.lm_head.weight is backbone.embeddings
    assert backbone.embeddings.data_ptr() == model.get_input_embeddings().weight.data_ptr()  # no second copy
    assert model.training and [type(module) for module in model.modules()] == kinds
    assert all(weight.requires_grad == asked and torch.equal(weight, was) and weight.grad is None
               for (asked, was), weight in zip(before.values(), model.parameters(), strict=True))
    embedded = backbone.embed(ids[0])[None].requires_grad_(True)
    backbone.model(inputs_embeds=embedded).logits.sum().backward()
    assert embedded.grad is not None and all(weight.grad is None for weight in model.parameters())
    torch.testing.assert_close(backbone.model(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=0)


def make_copy(model: Any) -> Backbone:
    return Backbone(copy.deepcopy(model), byte_level(), name="copy")


def test_wrapping_gives_the_view_the_attention_that_patches_need(tmp_path: Path) -> None:
    for family, needed in (("gemma2", "eager"), ("llama", "sdpa")):
        model = make_model(family, vocabulary=len(byte_level()))
        model.config._attn_implementation = "flash_attention_2"
        assert wrap(model, byte_level()).model.config._attn_implementation == needed
        assert model.config._attn_implementation == "flash_attention_2" and wrap(model, byte_level()).name == f"{family} model"
    loaded = load_backbone(saved(make_backbone("llama"), tmp_path / "tiny"), device="cpu")
    assert wrap(loaded.model, loaded.tokenizer).name == "tiny"


def test_a_wrapped_model_with_an_adapter_is_refused() -> None:
    peft = pytest.importorskip("peft")
    model = make_model("llama", vocabulary=len(byte_level()))
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(ModelError, match=r"PeftModelForCausalLM with an adapter.*merge_and_unload"):
        wrap(tuned, byte_level())
    assert wrap(tuned.merge_and_unload(), byte_level(), name="merged").name == "merged"
    with pytest.raises(ModelError, match="a str; expected"):
        wrap("model", byte_level())  # type: ignore[arg-type]


def settings() -> tuple[Any, ...]:
    from huggingface_hub.utils import are_progress_bars_disabled

    return hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled(), are_progress_bars_disabled()


@pytest.mark.parametrize("loud", [True, False])
def test_a_load_puts_the_librarys_settings_back(folder: Path, loud: bool) -> None:
    before = settings()
    try:
        (hf_logging.enable_progress_bar if loud else hf_logging.disable_progress_bar)()
        hf_logging.set_verbosity(logging.INFO if loud else logging.CRITICAL)
        given = settings()
        load_backbone(folder, device="cpu")
        assert settings() == given
        shutil.rmtree(folder)
        with pytest.raises(PatchLabError), quiet():
            assert settings() == (logging.ERROR, False, True)
            load_backbone(folder, device="cpu")
        assert settings() == given
    finally:
        hf_logging.set_verbosity(before[0])
        (hf_logging.enable_progress_bar if before[1] else hf_logging.disable_progress_bar)()


def test_a_load_says_nothing_by_itself(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone(folder, device="cpu")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_importing_changes_nothing_global() -> None:
    code = ("import logging, sys\nfrom transformers.utils import logging as hf\nfrom huggingface_hub.utils import "
            "are_progress_bars_disabled as off\nimport transformers, torch\n"
            "def now(): return (hf.get_verbosity(), hf.is_progress_bar_enabled(), off(), logging.root.level, "
            "list(logging.root.handlers), torch.get_num_threads(), torch.is_grad_enabled(), 'kernels' in sys.modules, "
            "'bitsandbytes' in sys.modules)\nbefore = now()\nimport patchlab.engine, patchlab.models, "
            "patchlab.models.quantization\nassert now() == before, now()")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_kernels_are_left_out_where_they_are_not_asked_for(folder: Path) -> None:
    packed = load_backbone(folder, device="cpu")
    assert any(isinstance(layer, cpu_kernels.PackedLinear) for layer in packed.model.modules()) == cpu_kernels.works(halved=False)
    stock = load_backbone(folder, device="cpu", kernels=False)
    assert not any(isinstance(layer, cpu_kernels.PackedLinear) for layer in stock.model.modules())
