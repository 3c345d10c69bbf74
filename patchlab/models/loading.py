"""Loads a base from a folder, a GGUF file or the Hub, or wraps a loaded model and tokenizer."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from patchlab.errors import InputError, ModelError, PatchLabError
from patchlab.models.architectures import check_architecture
from patchlab.models.backbone import Backbone
from patchlab.models.cpu_kernels import pack
from patchlab.models.quantization import library, narrow, quantized_bits
from patchlab.models.sources import WANTED, Source, find_source

_LOADING = threading.RLock()
DeviceMap = str | Mapping[str, Any]


def load_backbone(source: str | Path, *, revision: str | None = None, device: str | None = None,
                  device_map: DeviceMap | None = None, dtype: torch.dtype | None = None, bits: int | None = None,
                  kernels: bool = True) -> Backbone:
    """Load a model from a folder, GGUF file or Hub id. Weights are safetensors or GGUF, and the model's own code never runs.

    `device` places the whole model, `device_map` is that of transformers ("auto", or a device for each module); the default
    is a GPU if there is one. `dtype` defaults to float32 for up to about 1.2 billion parameters on a CPU, else to bfloat16.
    With `bits` (8 or 4) the linear layers are quantised after loading. `kernels` packs weights for faster products on a CPU,
    after which they must not be changed.

    Raises ModelError for a model that cannot be loaded or used with patches, InputError for options that exclude each other,
    MissingExtraError when a required library is not installed.
    """
    if device and device_map:
        raise InputError("a device and a device_map", expected="one of them", do="leave out the other")
    if isinstance(device_map, Mapping) and "disk" in device_map.values():
        raise InputError("a device_map with layers on disk", expected="every layer on a device",
                         do="use bits=8 or 4, or a machine with more memory")
    if bits is not None:
        library(bits)  # fails before the model is loaded
    with quiet():
        location = find_source(source, revision)
        where = device_map or device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model, tokenizer = _open(location, where, dtype, bits)
        except PatchLabError:
            raise
        except Exception as error:  # safetensors and tokenizers raise exceptions without a common type
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise ModelError(f"model {str(source)!r} cannot be loaded ({reason})",
                             expected=WANTED, do="download its files again, and check your access to the model") from error
        backbone = Backbone(model, tokenizer, name=location.name, revision=revision or location.revision or "")
        if bits:
            narrow(backbone.model, bits)  # after the fingerprint is taken: it is still the same base
        if kernels:
            pack(backbone.model)
    return backbone


def wrap(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str = "") -> Backbone:
    """A backbone for a loaded model and tokenizer, which are not modified.

    It runs a copy of the modules that shares the weights: frozen, in evaluation mode and with the attention implementation
    that patches need. If weights are changed in place later, the backbone uses the new ones under the old fingerprint.
    Raises ModelError for a model with an active adapter, or one that cannot be used with patches.
    """
    if not isinstance(model, PreTrainedModel) or getattr(model, "_hf_peft_config_loaded", False):
        kind = f"a {type(model).__name__}" + (" with an adapter" if hasattr(model, "peft_config") else "")
        raise ModelError(kind, expected="a causal language model of transformers",
                         do="merge an adapter first (merge_and_unload), or pass the model itself")
    check_architecture(model.config)
    memory: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        plain = type(weight) is nn.Parameter  # quantised weights hold further state and never require gradients
        memory[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False) if plain else weight
    view = copy.deepcopy(model, memory)  # copies modules, but none of the tensors in `memory`
    if view.config._attn_implementation not in ("eager", _attention(view.config)):
        view.set_attn_implementation(_attention(view.config))
    label = name or model.name_or_path or f"{model.config.model_type} model"
    return Backbone(view, tokenizer, name=Path(label).resolve().name if Path(label).is_dir() else label)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers, and restore them afterwards.

    These settings belong to the whole process, so only one thread at a time is inside.
    """
    with _LOADING:
        level, bars, hub = logging.get_verbosity(), logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the Hub warns when an environment variable disables its bars
                if bars:
                    logging.enable_progress_bar()
                (enable_progress_bars if hub else disable_progress_bars)()


def _open(location: Source, device_map: DeviceMap, dtype: torch.dtype | None, bits: int | None) -> tuple[Any, Any]:
    """The model and tokenizer of a source. Raises PatchLabError or any exception of the libraries."""
    if not location.gguf:
        check_architecture(SimpleNamespace(**location.settings))  # before transformers rejects a name it does not know
    shared: dict[str, Any] = {"revision": location.revision, "trust_remote_code": False, "local_files_only": location.cached,
                              **({"gguf_file": location.gguf} if location.gguf else {})}
    config = AutoConfig.from_pretrained(location.where, **shared)
    check_architecture(config)
    quantisation = getattr(config, "quantization_config", None)
    if quantisation and not location.gguf:
        saved_bits = quantized_bits(quantisation)
        if bits is not None:
            raise InputError(f"{bits} bits for a model that is saved in {saved_bits}", expected="no bits",
                             do="leave out the bits, or load the original model")
        quantisation["llm_int8_threshold"] = 0.0  # separate outliers would make rows of a batch depend on each other
    tokenizer = AutoTokenizer.from_pretrained(location.where, **shared)
    # On a CPU float32 with packed weights is faster than bfloat16 for small models: a step of SmolLM2-135M takes 33 ms with one
    # row and 44 with two in the engine on one core, in bfloat16 87 and 83. Loading it takes 4 s, and 1 s in bfloat16.
    dtype = dtype or (torch.float32 if device_map == "cpu" and _small(config) else torch.bfloat16)
    more: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True)} if location.gguf else {"use_safetensors": True}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        location.where, config=config, dtype=dtype, attn_implementation=_attention(config), device_map=device_map,
        output_loading_info=True, **more, **shared)
    model, info = loaded
    if info["missing_keys"]:  # transformers would initialise them at random
        raise ValueError(f"the weights lack {min(info['missing_keys'])}")
    if location.gguf and getattr(model.config, "quantization_config", None):  # dequantised: allow save_pretrained
        model.hf_quantizer = None
        del model.config.quantization_config
    return model, tokenizer


def _attention(config: Any) -> str:
    """Only eager attention supports soft-capped scores."""
    return "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"


def _small(config: Any) -> bool:
    """Whether the model has fewer than about 1.2 billion parameters, estimated from its config."""
    layers, width = config.num_hidden_layers, config.hidden_size
    return 12 * layers * width**2 + config.vocab_size * width < 1.2e9
