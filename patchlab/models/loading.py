"""Loads a base: from a folder, a GGUF file or the Hub, or around a model and tokenizer that are loaded already."""

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
    """Load a model folder, GGUF file or Hub id; safetensors or GGUF only, and never code from the model.

    `device` is one device for all of it, `device_map` what transformers takes by that name ("auto", or a device for each
    module); by default the GPU where there is one. `dtype` by default is float32 for a small model on a CPU, else bfloat16.
    With `bits`, 8 or 4, the weights of the layers are quantised once they are loaded. `kernels` lays the weights out for
    faster products on a CPU, after which they may not be changed.

    Raises ModelError for what cannot be loaded or cannot carry a patch, InputError for options that exclude each other,
    MissingExtraError where a library is needed that is not installed.
    """
    if device and device_map:
        raise InputError("a device and a device_map", expected="one of them", do="leave out the other")
    if isinstance(device_map, Mapping) and "disk" in device_map.values():
        raise InputError("a device_map with layers on disk", expected="every layer on a device",
                         do="use bits=8 or 4, or a machine with more memory")
    if bits is not None:
        library(bits)  # what is missing is found out before anything is loaded
    with quiet():
        found = find_source(source, revision)
        try:
            model, tokenizer = _open(found, device_map or device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype, bits)
        except PatchLabError:
            raise
        except Exception as error:  # safetensors and tokenizers raise bare exceptions of their own
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise ModelError(f"model {str(source)!r} cannot be loaded ({reason})",
                             expected=WANTED, do="download its files again, and check your access to the model") from error
        backbone = Backbone(model, tokenizer, name=found.name, revision=revision or found.revision or "")
        if bits:
            narrow(backbone.model, bits)  # with its identity known: it is still that base
        if kernels:
            pack(backbone.model)
    return backbone


def wrap(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str = "") -> Backbone:
    """A backbone around a model and tokenizer that are loaded already, which stay as they are.

    What it runs is a second set of modules over the same weights, frozen, in evaluation mode and with the attention that
    patches need; it takes no memory for weights. Weights changed in place later change the backbone and not its identity.
    Raises ModelError for a model with an adapter on, or one that cannot carry a patch.
    """
    if not isinstance(model, PreTrainedModel) or getattr(model, "_hf_peft_config_loaded", False):
        what = f"a {type(model).__name__}" + (" with an adapter" if hasattr(model, "peft_config") else "")
        raise ModelError(what, expected="a causal language model of transformers",
                         do="merge an adapter first (merge_and_unload), or pass the model itself")
    check_architecture(model.config)
    memory: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        plain = type(weight) is nn.Parameter  # quantised weights carry state of their own and ask for no gradients
        memory[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False) if plain else weight
    view = copy.deepcopy(model, memory)
    if view.config._attn_implementation not in ("eager", _attention(view.config)):
        view.set_attn_implementation(_attention(view.config))
    where = name or model.name_or_path or f"{model.config.model_type} model"
    return Backbone(view, tokenizer, name=Path(where).resolve().name if Path(where).is_dir() else where)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers, and put everything back as it was; loads take turns.

    These settings are the process's own. What matters in them is raised as an error.
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
                warnings.simplefilter("ignore")  # said where the environment has switched them off anyway
                if bars:
                    logging.enable_progress_bar()
                (enable_progress_bars if hub else disable_progress_bars)()


def _open(found: Source, device_map: DeviceMap, dtype: torch.dtype | None, bits: int | None) -> tuple[Any, Any]:
    """The model and tokenizer of a source. Raises a PatchLabError or whatever the libraries raise."""
    if not found.gguf:
        check_architecture(SimpleNamespace(**found.settings))  # before a library that may not know the name
    shared: dict[str, Any] = {"revision": found.revision, "trust_remote_code": False, "local_files_only": found.cached,
                              **({"gguf_file": found.gguf} if found.gguf else {})}
    config = AutoConfig.from_pretrained(found.where, **shared)
    check_architecture(config)
    held = getattr(config, "quantization_config", None)
    if held and not found.gguf:
        if bits is not None:
            raise InputError(f"{bits} bits for a model that is saved in {quantized_bits(held)}", expected="no bits",
                             do="leave out the bits, or load the model as it was before")
        quantized_bits(held)
        held["llm_int8_threshold"] = 0.0  # with outliers set apart a row would depend on its neighbours
    tokenizer = AutoTokenizer.from_pretrained(found.where, **shared)
    # on a CPU 32 bits are both faster and exact for small models; a GPU takes 16
    dtype = dtype or (torch.float32 if device_map == "cpu" and _small(config) else torch.bfloat16)
    more: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True)} if found.gguf else {"use_safetensors": True}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        found.where, config=config, dtype=dtype, attn_implementation=_attention(config), device_map=device_map,
        output_loading_info=True, **more, **shared)
    model, info = loaded
    if info["missing_keys"]:  # the library would fill them with noise and say nothing
        raise ValueError(f"the weights lack {min(info['missing_keys'])}")
    if found.gguf and getattr(model.config, "quantization_config", None):  # it is a plain model now, and can be saved as one
        model.hf_quantizer = None
        del model.config.quantization_config
    return model, tokenizer


def _attention(config: Any) -> str:
    """Soft-capped attention scores exist in eager attention only."""
    return "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"


def _small(config: Any) -> bool:
    """Whether 32-bit weights fit a common machine: about a billion parameters or fewer, judged from the config."""
    layers, width = config.num_hidden_layers, config.hidden_size
    return 12 * layers * width**2 + config.vocab_size * width < 1.2e9
