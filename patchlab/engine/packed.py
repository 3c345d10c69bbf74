"""Linear layers laid out once for the CPU's own product: a few rows then read the weights once, and not once a row.

The stock product of 32-bit weights goes over them anew for each of two or three rows, which is what a page has in flight.
oneDNN's does not, once the weights lie in its order. They also stay where they are and as they are, for gradients and for
whoever asks for them; what is packed is one more copy, held for as long as the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

ROWS = 16  # the layout is chosen for about so many; any number can be multiplied
LARGEST = 5 << 29  # bytes of weights that are worth one more copy: half a billion parameters, and not one billion
CACHED = 2**19  # weights that a core's own cache holds: for one row the stock product has less to call


class PackedLinear(nn.Linear):
    """A linear layer with the same weights, and a packed copy of them for when no gradient is asked for."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias  # the very parameters: what is tied stays tied
        self._packed: Tensor | None = _packed(self.weight)
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """input [..., in] times the weights, plus the bias."""
        few = input.numel() == self.in_features and self.weight.numel() < CACHED
        if few or torch.is_grad_enabled() or input.dtype != torch.float32 or input.device.type != "cpu":
            return functional.linear(input, self.weight, self.bias)
        if self._packed is None:
            self._packed = _packed(self.weight)
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")

    def __getstate__(self) -> dict[str, Any]:
        """All but the packed copy, which cannot be copied; a copy of the layer makes its own."""
        return {**self.__dict__, "_packed": None}


def _packed(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)


def pack(model: PreTrainedModel) -> bool:
    """Pack a model's linear layers where that helps: 32-bit weights on a CPU that oneDNN knows; says whether it did.

    The weights may not be changed afterwards. Logits are those of before but for rounding.
    """
    found = [(name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear]
    size = sum(layer.weight.numel() * 4 for _, layer in found)
    if (model.device.type != "cpu" or model.dtype != torch.float32 or size > LARGEST
            or not torch.backends.mkldnn.is_available()):
        return False
    for name, layer in found:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, PackedLinear(layer))
    return True
