"""Linear layers laid out once for the CPU's own product, so that a step reads as few bytes of weights as there are.

The stock product of 32-bit weights goes over them anew for each of two or three rows, which is what a page has in flight.
oneDNN's does not, once the weights lie in its order; and weights that were published in 16 bits, as most are, FBGEMM reads in
16 bits and multiplies in 32. The weights also stay where they are and as they are, for gradients and for whoever asks for
them; what is packed is one more copy, held for as long as the model.
"""

from __future__ import annotations

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
        self.halved, self._packed = halved, _packed(self, halved=halved)
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """input [..., in] times the weights, plus the bias."""
        if torch.is_grad_enabled() or input.dtype != torch.float32 or input.device.type != "cpu":
            return functional.linear(input, self.weight, self.bias)
        if self._packed is None:
            self.halved = fits_halves(self.weight)
            self._packed = _packed(self, halved=self.halved)
        if self.halved:
            return torch.ops.quantized.linear_dynamic_fp16(input, self._packed)
        if input.numel() == self.in_features and self.weight.numel() < CACHED:
            return functional.linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")

    def __getstate__(self) -> dict[str, Any]:
        """All but the packed copy, which cannot be copied; a copy of the layer makes its own."""
        return {**self.__dict__, "_packed": None}


def _packed(layer: nn.Linear, *, halved: bool) -> Any:
    if not halved:
        return torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
    bias = None if layer.bias is None else layer.bias.detach()
    return torch.ops.quantized.linear_prepack_fp16(layer.weight.detach(), bias)


@torch.no_grad()
def fits_halves(weight: Tensor) -> bool:
    """Whether 16 bits hold these 32-bit weights, and the machine has a product for such."""
    if torch.backends.quantized.engine not in ("x86", "fbgemm"):
        return False
    allowed = HALVES * float(weight.abs().max())
    # a few first: of weights that are no halves a whole copy need not be made
    return all(float((some.half().float() - some).abs().max()) <= allowed for some in (weight[:1], weight))


def pack(model: PreTrainedModel) -> bool:
    """Pack a model's linear layers where that helps: 32-bit weights on a CPU that oneDNN knows; says whether it did.

    The weights may not be changed afterwards. Logits are those of before but for rounding.
    """
    if model.device.type != "cpu" or model.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return False
    found = [(name, layer, fits_halves(layer.weight)) for name, layer in model.named_modules() if type(layer) is nn.Linear]
    if sum(layer.weight.numel() * (2 if halved else 4) for _, layer, halved in found) > LARGEST:
        return False
    for name, layer, halved in found:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, PackedLinear(layer, halved=halved))
    return True
