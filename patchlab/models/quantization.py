"""A base in 8 or 4 bits: the weights of its layers by bitsandbytes, and nothing else of it.

The base keeps its identity, so that patches fit as they are: what a patch adds are keys and values, in the dtype of before.
Replies are close to those of the full weights and not the same; `benchmarks/quality/quantization.py` measures the difference.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from patchlab.errors import InputError, MissingExtraError, ModelError

BITS = (8, 4)
MARK = "patchlab_bits"  # on a model: of how many bits its layers are
WIDE, OUT = 64, 32  # of what widths in and out must be multiples, for the CPU's 4-bit product
EXTRA = "bitsandbytes==0.50.2"
METHODS = {"bitsandbytes": "bitsandbytes", "gptq": "gptqmodel", "awq": "gptqmodel"}  # what saved checkpoints need


def narrow(model: PreTrainedModel, bits: int) -> None:
    """Hold the weights of all linear layers within the decoder in so many bits; embeddings and the output layer stay.

    4 bits are NF4 in blocks of 64 (arXiv 2305.14314, section 3); 8 bits are vector-wise, of activations too (arXiv 2208.07339,
    section 2.1, without outliers apart: a row would depend on its neighbours). Training asks for the weights as they are.
    Raises InputError for other bits, MissingExtraError without bitsandbytes, ModelError for layers that are narrow or do not fit.
    """
    layers = library(bits)
    output = model.get_output_embeddings()
    found = [(name, child) for name, child in model.named_modules()
             if isinstance(child, (nn.Linear, Conv1D)) and child is not output]
    for name, child in found:
        wide, out = _widths(child)
        if not child.weight.is_floating_point():
            raise ModelError(f"layer {name} of {child.weight.dtype}", expected="weights not narrowed before",
                             do="load the model as it is")
        if bits == 4 and child.weight.device.type == "cpu" and (wide % WIDE or out % OUT):
            raise ModelError(f"layer {name} of {wide} x {out}", do="use 8 bits, or a GPU",
                             expected=f"widths that are multiples of {WIDE} and {OUT} for 4 bits on a CPU")
    while found:
        name, child = found.pop()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, (_four if bits == 4 else _eight)(layers, child))
        del child  # one layer at a time is held twice
    setattr(model, MARK, bits)


def library(bits: int) -> Any:
    """The layers of bitsandbytes, where they and these bits will do. Raises InputError, or MissingExtraError without it."""
    if bits not in BITS:
        raise InputError(f"{bits} bits", expected="8 or 4", do="choose one, or leave it out for the weights as they are")
    if "bitsandbytes" not in sys.modules and importlib.util.find_spec("kernels"):
        raise ModelError("the package kernels beside bitsandbytes", do="pip uninstall kernels, or load the model without bits",
                         expected="bitsandbytes alone: with it, on some processors it runs code downloaded from the Hub")
    try:
        from bitsandbytes import nn as layers
    except ImportError:
        raise MissingExtraError("bitsandbytes is not installed", expected=f"{EXTRA} for {bits} bits",
                                do=f"pip install {EXTRA}") from None
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # it tells of every cast of every step
    return layers


def quantized_bits(held: Any) -> int:
    """The bits of a checkpoint that was saved quantised, from the `quantization_config` of its config.

    Raises ModelError for a method whose bits are not known here, MissingExtraError where its library is not installed.
    """
    settings = held if isinstance(held, Mapping) else held.to_dict()
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))[:40]
    if method not in METHODS:
        raise ModelError(f"a checkpoint quantised by {method!r}", expected=f"{', '.join(METHODS)}, or weights as they are",
                         do="load the model as it was before, with bits=8 or 4 if memory is short")
    if importlib.util.find_spec(METHODS[method]) is None:
        raise MissingExtraError(f"a checkpoint quantised by {method!r}, whose library is not installed",
                                expected=f"the package {METHODS[method]}", do=f"pip install {METHODS[method]}")
    if method == "bitsandbytes":
        return 4 if settings.get("load_in_4bit") else 8
    bits: Any = settings.get("bits")
    if bits not in range(1, 9):
        raise ModelError(f"a checkpoint quantised by {method!r} to {str(bits)[:20]} bits", expected="1 to 8",
                         do="load the model as it was before")
    return int(bits)


def _widths(layer: Any) -> tuple[int, int]:
    """The widths in and out of either kind of layer."""
    first, second = layer.weight.shape
    return (first, second) if isinstance(layer, Conv1D) else (second, first)


def _weight(layer: Any) -> torch.Tensor:
    """The weights [out, in] of either kind of layer."""
    return layer.weight.data.T.contiguous() if isinstance(layer, Conv1D) else layer.weight.data


def _four(layers: Any, layer: Any) -> nn.Module:
    weight = _weight(layer)
    made = layers.Linear4bit(*_widths(layer), bias=layer.bias is not None, compute_dtype=weight.dtype, quant_type="nf4",
                              device="meta")
    made.weight = layers.Params4bit(weight, requires_grad=False, quant_type="nf4", module=made)
    return _placed(made, layer, weight)


def _eight(layers: Any, layer: Any) -> nn.Module:
    weight = _weight(layer)
    made = layers.Linear8bitLt(*_widths(layer), bias=layer.bias is not None, has_fp16_weights=False, device="meta")
    # on the CPU first: only a move narrows it, and only from there
    made.weight = layers.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    return _placed(made, layer, weight)


def _placed(made: nn.Module, layer: Any, weight: torch.Tensor) -> nn.Module:
    """The new layer on the old one's device, which is when its weights are layers."""
    made.bias = layer.bias
    return made.to(weight.device).eval().requires_grad_(False)
