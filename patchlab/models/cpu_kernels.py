"""Linear layers with weights prepacked for faster matrix products on a CPU.

For 2 or 3 rows the default float32 product reads the weights once per row. oneDNN's product with prepacked weights reads them
once, and for weights that float16 represents exactly, as most published ones, FBGEMM's reads float16 and multiplies in float32.
The original weights stay in place for gradients; the packed copy takes additional memory.

These products are private operations of torch. Each is tested once per process on a small random matrix, and not used when it
is missing or its result differs.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

ROWS = 16  # the number of rows the layout is optimised for; any number works
LARGEST = 5 << 29  # maximum bytes of the packed copies: enough for half a billion float32 parameters, not for a billion
CACHED = 2**19  # weights that fit a core's cache: for one row the default product has less overhead
HALVES = 2**-21  # maximum error of float16, relative to the largest weight: the rounding error of a float32 sum


class PackedLinear(nn.Linear):
    """A linear layer with the same weights and a packed copy of them, which is used when gradients are disabled."""

    def __init__(self, layer: nn.Linear, *, halved: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias  # the same parameter objects, so that tied weights stay tied
        self.halved, self._packed = halved, _packed(self.weight, self.bias, halved=halved)
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """The linear map of `input` [..., in] to [..., out]."""
        if torch.is_grad_enabled() or input.dtype != torch.float32 or input.device.type != "cpu":
            return functional.linear(input, self.weight, self.bias)
        if self._packed is None:
            self.halved = fits_halves(self.weight)
            self._packed = _packed(self.weight, self.bias, halved=self.halved)
        if not self.halved and input.numel() == self.in_features and self.weight.numel() < CACHED:
            return functional.linear(input, self.weight, self.bias)
        return _product(input, self._packed, self.bias, halved=self.halved)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the packed weights, which cannot be copied; a copied layer packs its own."""
        return {**self.__dict__, "_packed": None}


def _packed(weight: Tensor, bias: Tensor | None, *, halved: bool) -> Any:
    if not halved:
        return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
    return torch.ops.quantized.linear_prepack_fp16(weight.detach(), None if bias is None else bias.detach())


def _product(input: Tensor, packed: Any, bias: Tensor | None, *, halved: bool) -> Tensor:
    if halved:
        return torch.ops.quantized.linear_dynamic_fp16(input, packed)
    return torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")


@functools.cache
@torch.no_grad()
def works(*, halved: bool) -> bool:
    """Whether this torch on this machine has the product and it agrees with `functional.linear`; tested once per process."""
    random = torch.Generator().manual_seed(0)
    weight, bias, rows = (torch.randn(*shape, generator=random) for shape in ((48, 64), (48,), (2, 3, 64)))
    weight = weight.half().float()
    for inputs in (rows, rows[:1, :1]):
        expected = functional.linear(inputs, weight, bias)
        try:
            result = _product(inputs, _packed(weight, bias, halved=halved), bias, halved=halved)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # missing, unsupported CPU or another signature
            return False
        if result.shape != expected.shape or not torch.allclose(result, expected, atol=1e-4, rtol=0):
            return False
    return True


@torch.no_grad()
def fits_halves(weight: Tensor) -> bool:
    """Whether float16 represents these float32 weights and the machine has a product for them."""
    if torch.backends.quantized.engine not in ("x86", "fbgemm") or not works(halved=True):
        return False
    allowed = HALVES * float(weight.abs().max())
    # the first row alone before a copy of the whole matrix is made
    return all(float((part.half().float() - part).abs().max()) <= allowed for part in (weight[:1], weight))


def pack(model: PreTrainedModel) -> bool:
    """Pack the linear layers of a float32 model on a CPU whose packed product works; returns whether it did.

    The weights must not be changed afterwards. Logits are equal up to rounding.
    """
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return False
    if not (torch.backends.mkldnn.is_available() and works(halved=False)):
        return False
    layers = [(name, layer, fits_halves(layer.weight)) for name, layer in model.named_modules() if type(layer) is nn.Linear]
    if sum(layer.weight.numel() * (2 if halved else 4) for _, layer, halved in layers) > LARGEST:
        return False
    for name, layer, halved in layers:
        model.set_submodule(name, PackedLinear(layer, halved=halved))
    return True
