"""What cannot be loaded is one error with a way out: broken folders, other kinds of model, names that lead nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import byte_level, make_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, GPTNeoXConfig, MambaConfig

from patchlab.errors import MissingExtraError, ModelError
from patchlab.models import Backbone, load_backbone, wrap
from patchlab.models.architectures import check_architecture


def edit(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | settings), encoding="utf-8")


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def cut_the_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:20])


def lose_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.self_attn.v_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_a_shape(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"] = torch.ones(7)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def leave_a_pickle_only(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def ask_for_code(folder: Path) -> None:
    edit(folder, model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    (folder / "mine.py").write_text("raise SystemExit('code from the folder ran')", encoding="utf-8")


def ask_for_code_of_a_known_type(folder: Path) -> None:
    edit(folder, auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}, vocab_size=2)
    (folder / "mine.py").write_text("raise SystemExit('code from the folder ran')", encoding="utf-8")


def leave_a_lora(folder: Path) -> None:
    lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "tiny"}
    (folder / "adapter_config.json").write_text(json.dumps(lora), encoding="utf-8")
    weights = {f"base_model.model.model.layers.{k}.self_attn.q_proj.lora_{side}.weight": torch.ones(shape)
               for k in (0, 1) for side, shape in (("A", (2, 32)), ("B", (32, 2)))}
    save_file(weights, folder / "adapter_model.safetensors")


def drop_the_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def two_ggufs(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(b"GGUF")


WHY = [(truncate, "cannot be loaded"), (cut_the_header, "cannot be loaded"), (change_a_shape, "cannot be loaded"),
       (lose_a_tensor, r"the weights lack model\.layers\.1\.self_attn\.v_proj\.weight"),
       (leave_a_pickle_only, r"pickled, pytorch_model\.bin.*save_pretrained"),
       (lambda folder: (folder / "model.safetensors").unlink(), "it has no weights"),
       (lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0", "model": 3}'), "cannot be loaded"),
       (drop_the_tokenizer, "it has no tokenizer.*save the tokenizer beside the model"),
       (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
       (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json cannot be read"),
       (lambda folder: (folder / "config.json").write_text("[]"), "names no model_type"),
       (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
       (ask_for_code, "architecture 'mine'"), (ask_for_code_of_a_known_type, "cannot be loaded"),
       (leave_a_lora, r"holds an adapter, adapter_config\.json.*merge the adapter"),
       (two_ggufs, "2 GGUF files.*name one, such as .*a.gguf"),
       (lambda folder: edit(folder, model_type="unheard_of"), "architecture 'unheard_of'.*one of: llama"),
       (lambda folder: edit(folder, model_type="jamba"), "architecture 'jamba'"),
       (lambda folder: edit(folder, model_type="qwen3_next", layer_types=["linear_attention", "full_attention"]),
        "architecture 'qwen3_next' with layers of linear_attention"),
       (lambda folder: edit(folder, layer_types=["full_attention", "recurrent"]), "'llama' with layers of recurrent"),
       (lambda folder: edit(folder, model_type="gemma3", vision_config={"a": 1}), "multimodal architecture 'gemma3'.*by itself"),
       (lambda folder: edit(folder, quantization_config={"quant_method": "mxfp4"}), "quantised by 'mxfp4'"),
       (lambda folder: edit(folder, quantization_config={"quant_method": "gptq", "bits": 4}), "'gptq'.*pip install gptqmodel")]


@pytest.mark.parametrize(("harm", "why"), WHY)
def test_a_folder_that_is_no_whole_model_is_one_error_with_a_way_out(folder: Path, harm: Any, why: str) -> None:
    harm(folder)
    with pytest.raises((ModelError, MissingExtraError), match=why) as caught:
        load_backbone(folder, device="cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


def test_an_adapter_is_refused_without_peft_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_a_lora(folder)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("transformers.utils.import_utils.is_peft_available", lambda: False)
    with pytest.raises(ModelError, match="holds an adapter"):
        load_backbone(folder, device="cpu")


@pytest.mark.parametrize(("source", "why"), [
    ("/nowhere/at all", "no such folder or file"), ("~/no/such/folder", "no such folder or file"),
    ("not an id", "no such folder or file"), ("", "no such folder or file|is one file|has no config"),
    ("nobody/nothing", "no such folder here, and the Hub cannot be reached"), ("nobody--x/..", "no such")])
def test_a_source_that_is_not_there_is_one_error(source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=why):
        load_backbone(source, device="cpu")


def test_a_hub_id_without_a_network_is_said_quickly(tmp_path: Path) -> None:
    """Not in offline mode but with a Hub that does not answer."""
    code = ("import time\nfrom patchlab.errors import ModelError\nfrom patchlab.models import load_backbone\n"
            "begun = time.monotonic()\ntry:\n load_backbone('nobody/nothing')\nexcept ModelError as error:\n"
            " print(error, time.monotonic() - begun < 10)\n")
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert "the Hub cannot be reached" in done.stdout and done.stdout.endswith(" True\n") and not done.stderr.strip()
    assert done.stdout.count("\n") == 1


def test_architectures_that_cannot_carry_a_patch_are_refused() -> None:
    """ALiBi has no positions to keep, a state-space layer no keys."""
    for config in (MambaConfig(), BertConfig()):
        with pytest.raises(ModelError, match=f"'{config.model_type}'.*(llama|attention in every layer)"):
            check_architecture(config)
    check_architecture(GPTNeoXConfig())
    bloom = make_model("bloom", vocabulary=len(byte_level()))
    with pytest.raises(ModelError, match="'bloom'"):
        wrap(bloom, byte_level())
    slanted = make_model("falcon", vocabulary=len(byte_level()), alibi=True, attention="eager")
    with pytest.raises(ModelError, match="'falcon' with ALiBi"):
        Backbone(slanted, byte_level(), name="falcon")
