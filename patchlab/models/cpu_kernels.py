"""Linear layers laid out once for the CPU's own product, so that a step reads as few bytes of weights as there are.

The stock product of 32-bit weights goes over them anew for each of two or three rows, which is what a page has in flight.
oneDNN's does not, once the weights lie in its order; and weights that were published in 16 bits, as most are, FBGEMM reads in
16 bits and multiplies in 32. The weights also stay where they are and as they are, for gradients and for whoever asks for
them; what is packed is one more copy, held for as long as the model.

These products are private to torch. Each is tried once a process on a small random one, and not used where it is missing or
its result differs.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

ROWS = 16  # the layout is chosen for about so many; any number can be multiplied
LARGEST = 5 << 29  # bytes of one more copy that are worth it: half a billion parameters in 32 bits, and not one billion
CACHED = 2**19  # weights that a core's own cache holds: for one row the stock product has less to call
HALVES = 2**-21  # how far off 16 bits may be, in units of a layer's largest weight: what 32 bits lose in the sum anyway


class PackedLinear(nn.Linear):
    """A linear layer with the same weights, and a packed copy of them for when no gradient is asked for."""

    def __init__(self, layer: nn.Linear, *, halved: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias  # the very parameters: what is tied stays tied
        self.halved, self._packed = halved, _packed(self.weight, self.bias, halved=halved)
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """input [..., in] times the weights, plus the bias."""
        if torch.is_grad_enabled() or input.dtype != torch.float32 or input.device.type != "cpu":
            return functional.linear(input, self.weight, self.bias)
        if self._packed is None:
            self.halved = fits_halves(self.weight)
            self._packed = _packed(self.weight, self.bias, halved=self.halved)
        if not self.halved and input.numel() == self.in_features and self.weight.numel() < CACHED:
            return functional.linear(input, self.weight, self.bias)
        return _product(input, self._packed, self.bias, halved=self.halved)

    def __getstate__(self) -> dict[str, Any]:
        """All but the packed copy, which cannot be copied; a copy of the layer makes its own."""
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
    """Whether this torch on this machine has the product, and it agrees with the public one; tried once a process."""
    random = torch.Generator().manual_seed(0)
    weight, bias, rows = (torch.randn(*shape, generator=random) for shape in ((48, 64), (48,), (2, 3, 64)))
    weight = weight.half().float()
    try:
        found = [_product(each, _packed(weight, bias, halved=halved), bias, halved=halved) for each in (rows, rows[:1, :1])]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # gone, or not for this processor, or called otherwise
        return False
    wanted = [functional.linear(each, weight, bias) for each in (rows, rows[:1, :1])]
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-4, rtol=0) for a, b in zip(found, wanted, strict=True))


@torch.no_grad()
def fits_halves(weight: Tensor) -> bool:
    """Whether 16 bits hold these 32-bit weights, and the machine has a product for such."""
    if torch.backends.quantized.engine not in ("x86", "fbgemm") or not works(halved=True):
        return False
    allowed = HALVES * float(weight.abs().max())
    # a few first: of weights that are no halves a whole copy need not be made
    return all(float((some.half().float() - some).abs().max()) <= allowed for some in (weight[:1], weight))


def pack(model: PreTrainedModel) -> bool:
    """Pack a model's linear layers where that helps: 32-bit weights on a CPU whose packed product works; says whether it did.

    The weights may not be changed afterwards. Logits are those of before but for rounding.
    """
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return False
    if not (torch.backends.mkldnn.is_available() and works(halved=False)):
        return False
    found = [(name, layer, fits_halves(layer.weight)) for name, layer in model.named_modules() if type(layer) is nn.Linear]
    if sum(layer.weight.numel() * (2 if halved else 4) for _, layer, halved in found) > LARGEST:
        return False
    for name, layer, halved in found:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, PackedLinear(layer, halved=halved))
    return True
