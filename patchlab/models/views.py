"""Other ways through a model's own weights: fewer layers, or layers that recompute their activations.

A view is a new module object that shares every parameter with the model, so that no hook and no patched method on shared layers
is needed: what one thread computes through a view, another thread on the model itself never sees.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "project_out")  # what follows the last layer


class Checkpointed(nn.Module):
    """A decoder layer that keeps only its input and runs again in the backward pass.

    The library's own switch works in training mode only, in which dropout would be on.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns."""
        return checkpoint(self.layer, *args, use_reentrant=False, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """The layer's own attributes, which some models read (`attention_type`)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


def decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The dotted name and the list of a model's decoder layers."""
    count = model.config.num_hidden_layers
    return next((name, each) for name, each in model.named_modules() if isinstance(each, nn.ModuleList) and len(each) == count)


def truncated(model: PreTrainedModel, layers: int) -> nn.Module:
    """The model without its output head whose last hidden state is that of layer `layers` - 1, before any final norm."""
    base: Any = model.base_model
    name, own = decoder_layers(base)
    return _with_layers(base, name, list(own[:layers]), drop=FINAL_NORMS)


def checkpointed(model: PreTrainedModel) -> nn.Module:
    """The model with layers that recompute their activations in the backward pass."""
    name, own = decoder_layers(model)
    return _with_layers(model, name, [Checkpointed(layer) for layer in own])


def _with_layers(model: nn.Module, name: str, layers: Sequence[nn.Module], *, drop: Sequence[str] = ()) -> nn.Module:
    """A shallow copy of a model, of the modules on the way to its layers and of nothing else, with other layers in it."""
    *way, last = name.split(".")
    top = place = _copied(model)
    for step in way:
        place._modules[step] = _copied(place._modules[step])  # type: ignore[arg-type]
        place = place._modules[step]  # type: ignore[assignment]
    place._modules[last] = nn.ModuleList(layers)
    for norm in drop:
        if place._modules.get(norm) is not None:
            place._modules[norm] = nn.Identity() if norm != "project_out" else None
    return top


def _copied(module: nn.Module) -> nn.Module:
    """The same module object anew, sharing parameters, buffers and children, with a list of children of its own."""
    made = copy.copy(module)
    made.__dict__["_modules"] = dict(module._modules)
    if "_old_forward" in made.__dict__:  # accelerate bound the forward of the module that was copied
        made.__dict__.pop("forward", None)
    return made
