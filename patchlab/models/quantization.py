"""Quantises the linear layers of a base to 8 or 4 bits with bitsandbytes.

The base keeps its identity, so that its patches can be used unchanged: they add keys and values in the original dtype.
Replies are close to those of the full weights but not equal; `benchmarks/quality/quantization.py` measures the difference.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from patchlab.errors import InputError, MissingExtraError, ModelError

BITS = (8, 4)
MARK = "patchlab_bits"  # attribute of a quantised model: the bits of its layers
WIDE, OUT = 64, 32  # in- and out-features must be multiples of these for the CPU's 4-bit product
EXTRA = "bitsandbytes==0.50.2"
METHODS = {"bitsandbytes": "bitsandbytes", "gptq": "gptqmodel", "awq": "gptqmodel"}  # method -> package


def narrow(model: PreTrainedModel, bits: int) -> None:
    """Quantise all linear layers of the decoder in place; embeddings and the output layer are kept.

    4 bits are NF4 in blocks of 64 (arXiv 2305.14314, section 3); 8 bits are vector-wise quantisation of weights and activations
    (arXiv 2208.07339, section 2.1) without separate outliers, which would make rows of a batch depend on each other. Raises
    InputError for other bits, MissingExtraError without bitsandbytes, ModelError for layers that are quantised or do not fit.
    """
    library_layers = library(bits)
    output = model.get_output_embeddings()
    linear = [(name, child) for name, child in model.named_modules()
              if isinstance(child, (nn.Linear, Conv1D)) and child is not output]
    for name, child in linear:
        wide, out = _widths(child)
        if not child.weight.is_floating_point():
            raise ModelError(f"layer {name} of {child.weight.dtype}", expected="weights that are not quantised",
                             do="load the model without bits")
        if bits == 4 and child.weight.device.type == "cpu" and (wide % WIDE or out % OUT):
            raise ModelError(f"layer {name} of {wide} x {out}", do="use 8 bits, or a GPU",
                             expected=f"widths that are multiples of {WIDE} and {OUT} for 4 bits on a CPU")
    while linear:
        name, child = linear.pop()
        model.set_submodule(name, _quantised(library_layers, child, bits))
        del child  # so that only one layer is in memory twice
    setattr(model, MARK, bits)


def library(bits: int) -> Any:
    """The module bitsandbytes.nn. Raises InputError for other bits, MissingExtraError without bitsandbytes, ModelError when
    the package `kernels` would change what it runs."""
    if bits not in BITS:
        raise InputError(f"{bits} bits", expected="8 or 4", do="choose one, or leave it out to load without quantisation")
    if "bitsandbytes" not in sys.modules and importlib.util.find_spec("kernels"):
        raise ModelError("the package kernels is installed, with which bitsandbytes runs code from the Hub on some CPUs",
                         expected="bitsandbytes without it", do="pip uninstall kernels, or load the model without bits")
    try:
        from bitsandbytes import nn as layers
    except ImportError:
        raise MissingExtraError("bitsandbytes is not installed", expected=f"{EXTRA} for {bits} bits",
                                do=f"pip install {EXTRA}") from None
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # it logs every cast of every step
    return layers


def quantized_bits(config: Any) -> int:
    """The bits of a checkpoint that was saved quantised, from its `quantization_config`.

    Raises ModelError for an unsupported method, MissingExtraError when the method's library is not installed.
    """
    settings = config if isinstance(config, Mapping) else config.to_dict()
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))[:40]
    if method not in METHODS:
        raise ModelError(f"a checkpoint quantised by {method!r}", expected=f"{', '.join(METHODS)}, or unquantised weights",
                         do="load the original model, with bits=8 or 4 if memory is short")
    if importlib.util.find_spec(METHODS[method]) is None:
        raise MissingExtraError(f"a checkpoint quantised by {method!r}, whose library is not installed",
                                expected=f"the package {METHODS[method]}", do=f"pip install {METHODS[method]}")
    if method == "bitsandbytes":
        return 4 if settings.get("load_in_4bit") else 8
    bits: Any = settings.get("bits")
    if bits not in range(1, 9):
        raise ModelError(f"a checkpoint quantised by {method!r} to {str(bits)[:20]} bits", expected="1 to 8",
                         do="load the original model")
    return int(bits)


def _widths(layer: Any) -> tuple[int, int]:
    """In- and out-features of nn.Linear or Conv1D."""
    first, second = layer.weight.shape
    return (first, second) if isinstance(layer, Conv1D) else (second, first)


def _quantised(library_layers: Any, layer: Any, bits: int) -> nn.Module:
    weight = layer.weight.data.T.contiguous() if isinstance(layer, Conv1D) else layer.weight.data  # [out, in]
    shared: dict[str, Any] = {"bias": layer.bias is not None, "device": "meta"}
    new: Any
    if bits == 4:
        new = library_layers.Linear4bit(*_widths(layer), compute_dtype=weight.dtype, quant_type="nf4", **shared)
        new.weight = library_layers.Params4bit(weight, requires_grad=False, quant_type="nf4", module=new)
    else:
        new = library_layers.Linear8bitLt(*_widths(layer), has_fp16_weights=False, **shared)
        # bitsandbytes quantises when the weights are moved from the CPU
        new.weight = library_layers.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    new.bias = layer.bias
    return new.to(weight.device).eval().requires_grad_(False)
