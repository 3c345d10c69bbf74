"""Adapters that PEFT has written are read as it reads them; folders that are wrong or hostile are refused by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from local_hub import local_hub
from made_adapters import TARGETS, adapted_of, save_adapter
from made_models import make_backbone, make_patch, saved, some_ids
from safetensors.torch import load_file, save_file

from patchlab.errors import BaseMismatchError, ModelError
from patchlab.models import Backbone, load_reference, read_adapter, with_adapter
from patchlab.models.adapter import pin

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FIRST = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"


@pytest.fixture
def adapter(llama: Backbone, tmp_path: Path) -> Path:
    """An adapter of `llama` on disk."""
    save_adapter(llama, tmp_path / "adapter")
    return tmp_path / "adapter"


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


@pytest.mark.parametrize("family", TARGETS)
def test_the_adapted_base_is_pefts_model_and_the_merged_one(family: str, tmp_path: Path,
                                                            weights: Callable[[Backbone], str]) -> None:
    base, ids = make_backbone(family), torch.tensor([some_ids(9, seed=1), some_ids(9, seed=2)])
    before, bare = weights(base), logits(base.model, ids)
    theirs = save_adapter(base, tmp_path)
    mine = with_adapter(base, read_adapter(tmp_path, base))
    torch.testing.assert_close(logits(mine.model, ids), logits(theirs, ids), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(mine.model, ids), logits(theirs.merge_and_unload(), ids), atol=1e-4, rtol=0)
    assert float((logits(mine.model, ids) - bare).abs().max()) > 0.1
    assert weights(base) == before and torch.equal(logits(base.model, ids), bare)


@pytest.mark.parametrize("options", [
    {"use_rslora": True}, {"layers_to_transform": [1]}, {"layers_to_transform": 0}, {"r": 1, "lora_alpha": 3},
    {"targets": r".*layers\.\d\.mlp\.(up|down)_proj"}, {"targets": "all-linear"},
    {"lora_dropout": 0.5}, {"init_lora_weights": "gaussian"}], ids=str)
def test_options_of_peft(options: dict[str, Any], llama: Backbone, tmp_path: Path) -> None:
    ids = torch.tensor([some_ids(9, seed=1)])
    theirs = save_adapter(llama, tmp_path, **options)
    mine = with_adapter(llama, read_adapter(tmp_path, llama))
    torch.testing.assert_close(logits(mine.model, ids), logits(theirs, ids), atol=1e-4, rtol=0)


def test_an_adapted_base_shares_the_weights_and_has_its_own_identity(llama: Backbone, tmp_path: Path) -> None:
    one, two = (adapted_of(llama, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    again = with_adapter(llama, read_adapter(tmp_path / "0", llama))
    shared = {weight.data_ptr() for weight in llama.model.parameters()}
    assert {weight.data_ptr() for weight in one.model.parameters()} == shared
    assert one.origin is llama and one.name == "0" and one.scheduler is None
    assert len({each.identity.fingerprint for each in (llama, one, two)}) == 3
    assert again.identity == one.identity and again.adapter == one.adapter != two.adapter
    assert not one.same_base(llama.identity) and one.same_base(again.identity)
    with pytest.raises(ModelError, match="has an adapter"):
        with_adapter(one, two.adapter)


def test_it_is_cast_to_the_dtype_of_the_base(tmp_path: Path) -> None:
    base = make_backbone("llama", seed=7)
    adapter = adapted_of(base, tmp_path).adapter
    half = with_adapter(halved := _halved(base), read_adapter(tmp_path, halved))
    assert {each.down.dtype for each in half.adapter.layers.values()} == {torch.bfloat16}
    assert adapter == half.adapter and logits(half.model, torch.tensor([[5, 6]])).isfinite().all()


def _halved(base: Backbone) -> Backbone:
    return Backbone(copy.deepcopy(base.model).bfloat16(), base.tokenizer, name="half")


def rewritten(folder: Path, **options: Any) -> Path:
    """The folder with other options in its config."""
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(settings | options))
    return folder


@pytest.mark.parametrize(("option", "value"), [
    ("peft_type", "LOHA"), ("peft_type", None), ("bias", "all"), ("bias", "lora_only"), ("use_dora", True), ("lora_bias", True),
    ("modules_to_save", ["lm_head"]), ("rank_pattern", {"q_proj": 8}), ("alpha_pattern", {"(a+)+$": 8}),
    ("layer_replication", [[0, 2]]), ("target_parameters", ["x"]), ("trainable_token_indices", [1]), ("use_qalora", True),
    ("alora_invocation_tokens", [1]), ("init_lora_weights", "pissa"), ("init_lora_weights", "loftq"), ("new_option", "on"),
    ("r", 10**9), ("r", 0), ("r", True), ("r", "4"), ("lora_alpha", "8"), ("lora_alpha", 1e30), ("lora_alpha", None),
    ("use_rslora", "yes"), ("task_type", "SEQ_CLS"), ("target_modules", None), ("target_modules", [1]),
    ("layers_to_transform", ["x"]), ("layers_pattern", "(a+)+$"), ("exclude_modules", "o_proj")])
def test_options_that_change_what_is_computed_are_refused_by_name(option: str, value: Any, adapter: Path,
                                                                  llama: Backbone) -> None:
    with pytest.raises(ModelError, match=option):
        read_adapter(rewritten(adapter, **{option: value}), llama)


def changed(folder: Path, **tensors: torch.Tensor | None) -> Path:
    """The folder with other tensors; None leaves one out."""
    found = load_file(folder / WEIGHTS) | tensors
    save_file({name: tensor for name, tensor in found.items() if tensor is not None}, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize(("tensors", "match"), [
    ({FIRST: torch.zeros(4, 33)}, r"\[4, 33\].*\[4, 32\]"), ({FIRST: torch.zeros(5, 32)}, r"\[5, 32\]"),
    ({FIRST: torch.zeros(4, 32, dtype=torch.int64)}, "int64"), ({FIRST: torch.full((4, 32), torch.nan)}, "NaN"),
    ({FIRST: torch.full((4, 32), torch.inf)}, "NaN or infinite"), ({FIRST: None}, "o_proj"),
    ({FIRST: None, FIRST.replace("_A", "_B"): None}, "o_proj"),
    ({"base_model.model.../../../etc/passwd.lora_A.weight": torch.zeros(4, 32)}, "no linear layer"),
    ({"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(4, 32)}, "layers.9"),
    ({"base_model.model.model.norm.lora_A.weight": torch.zeros(4, 32)}, "model.norm"),
    ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 259)}, "embed_tokens"),
    ({FIRST.replace("lora_A", "lora_magnitude_vector"): torch.zeros(32)}, "magnitude"),
    ({f"base_model.model.model.layers.0.mlp.up_proj.lora_{side}.weight": torch.zeros(*shape)
      for side, shape in (("A", (4, 32)), ("B", (48, 4)))}, "up_proj")], ids=str)
def test_tensors_that_do_not_fit_are_refused_by_name(tensors: dict[str, Any], match: str, adapter: Path, llama: Backbone) -> None:
    with pytest.raises(ModelError, match=match):
        read_adapter(changed(adapter, **tensors), llama)


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]", b"\x40\0\0\0\0\0\0\0{",
                                  pickle.dumps({"a": 1})])
def test_weights_that_are_not_safetensors_are_refused(data: bytes, adapter: Path, llama: Backbone) -> None:
    (adapter / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match=r"adapter 'adapter' cannot be used"):
        read_adapter(adapter, llama)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"r": 1, "r": 2}', '{"lora_alpha": NaN}', "[" * 10_000])
def test_a_config_that_is_not_an_object_is_refused(text: str, adapter: Path, llama: Backbone) -> None:
    (adapter / CONFIG).write_text(text)
    with pytest.raises(ModelError, match=CONFIG):
        read_adapter(adapter, llama)


def test_files_that_are_too_large_or_missing(adapter: Path, llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchlab.models.adapter.MAX_WEIGHTS", 100)
    with pytest.raises(ModelError, match="over 100 bytes"):
        read_adapter(adapter, llama)
    (adapter / CONFIG).write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ModelError, match="over 1048576 bytes"):
        read_adapter(adapter, llama)
    with pytest.raises(ModelError, match="cannot be read"):
        read_adapter(adapter / "none", llama)


class _Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was read",)


def test_pickles_are_never_read(adapter: Path, llama: Backbone) -> None:
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(_Bomb()))
    assert load_reference(adapter, llama).adapter is not None  # the safetensors beside it are what is used
    (adapter / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"without adapter_model\.safetensors.*pickle can run code"):
        load_reference(adapter, llama)


def test_an_adapter_of_another_base_is_refused_by_name(adapter: Path, llama: Backbone, caplog: pytest.LogCaptureFixture) -> None:
    rewritten(adapter, base_model_name_or_path="someone/tiny-llama")
    with caplog.at_level(logging.WARNING):
        read_adapter(adapter, llama)
        assert not caplog.records
        rewritten(adapter, base_model_name_or_path="someone/large-llama")
        read_adapter(adapter, llama)
        assert "someone/large-llama" in caplog.text and "not checked" in caplog.text
    pin(adapter, llama)
    assert read_adapter(adapter, llama).base == "someone/large-llama"
    with pytest.raises(BaseMismatchError, match=r"someone/large-llama.*this base, tiny-llama"):
        read_adapter(adapter, make_backbone("llama", seed=3))
    (adapter / WEIGHTS).unlink()
    save_adapter(llama, adapter)
    rewritten(adapter, base_model_name_or_path="someone/large-llama")
    with pytest.raises(ModelError, match=r"no linear layer of tiny-gpt2.*someone/large-llama"):
        read_adapter(adapter, make_backbone("gpt2"))


def test_a_pinned_adapter_is_the_same_to_peft(adapter: Path, llama: Backbone) -> None:
    before = load_file(adapter / WEIGHTS)
    pin(adapter, llama)
    after = load_file(adapter / WEIGHTS)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_reference_is_an_adapter_or_a_model(adapter: Path, llama: Backbone, tmp_path: Path) -> None:
    model = saved(make_backbone("llama", seed=1), tmp_path / "model")
    loaded = load_reference(model, llama, device="cpu")
    assert loaded.origin is None and loaded.adapter is None and loaded.name == "model"
    mine = load_reference(adapter, llama, device="cpu")
    assert mine.origin is llama and mine.adapter is not None and mine.name == "adapter"
    for name in (CONFIG, WEIGHTS):  # beside a whole model: which one is meant?
        (model / name).write_bytes((adapter / name).read_bytes())
    with pytest.raises(ModelError, match="it holds an adapter"):
        load_reference(model, llama)
    with pytest.raises(ModelError, match="peft_type"):
        load_reference(make_patch(llama, "a", length=3).save_pretrained(tmp_path / "a-1.0.0"), llama)
    with pytest.raises(ModelError, match="no such folder"):
        load_reference(tmp_path / "none here", llama)


def test_an_adapter_on_the_hub(adapter: Path, llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with local_hub() as hub:
        hub.repositories["me/safer"] = {"main": {name: (adapter / name).read_bytes() for name in (CONFIG, WEIGHTS)}}
        hub.repositories["me/pickled"] = {"main": {CONFIG: (adapter / CONFIG).read_bytes(), "adapter_model.bin": b""}}
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        found = load_reference("me/safer", llama)
        assert found.name == "me/safer" and found.adapter == read_adapter(adapter, llama)
        with pytest.raises(ModelError, match="pickle can run code"):
            load_reference("me/pickled", llama)
        with pytest.raises(ModelError, match="no such repository"):
            load_reference("me/none", llama)
