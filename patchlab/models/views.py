"""Other ways through a model's own weights: fewer layers, or layers that recompute their activations.

A view is a new module object that shares every parameter with the model, so that no hook and no patched method on shared layers
is needed: what one thread computes through a view, another thread on the model itself never sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

Tell = Callable[[Tensor], None]


class _Wrapped(nn.Module):
    """A decoder layer with something around it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        """The layer's own attributes, which some models read (`attention_type`)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class Checkpointed(_Wrapped):
    """A decoder layer that keeps only its input and runs again in the backward pass.

    The library's own switch works in training mode only, in which dropout would be on.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns."""
        return checkpoint(self.layer, *args, use_reentrant=False, **kwargs)


class Watched(_Wrapped):
    """A decoder layer whose output [B, T, D] is also given to `tell`."""

    def __init__(self, layer: nn.Module, tell: Tell) -> None:
        super().__init__(layer)
        self.tell = tell

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns."""
        out = self.layer(*args, **kwargs)
        self.tell(out[0] if isinstance(out, tuple) else out)
        return out


def decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The dotted name and the list of a model's decoder layers."""
    count = model.config.num_hidden_layers
    return next((name, each) for name, each in model.named_modules() if isinstance(each, nn.ModuleList) and len(each) == count)


def watched(model: PreTrainedModel, tell: Mapping[int, Tell]) -> nn.Module:
    """The model without its output head, cut off behind the last of the layers in `tell`, each of which is told its output."""
    base: Any = model.base_model
    name, own = decoder_layers(base)
    layers = [Watched(layer, tell[k]) if k in tell else layer for k, layer in enumerate(own[:max(tell) + 1])]
    return _with_layers(base, name, layers)


def checkpointed(model: PreTrainedModel) -> nn.Module:
    """The model with layers that recompute their activations in the backward pass."""
    name, own = decoder_layers(model)
    return _with_layers(model, name, [Checkpointed(layer) for layer in own])


def _with_layers(model: nn.Module, name: str, layers: Sequence[nn.Module]) -> nn.Module:
    """A shallow copy of a model, of the modules on the way to its layers and of nothing else, with other layers in it."""
    *way, last = name.split(".")
    top = place = _copied(model)
    for step in way:
        place._modules[step] = _copied(place._modules[step])  # type: ignore[arg-type]
        place = place._modules[step]  # type: ignore[assignment]
    place._modules[last] = nn.ModuleList(layers)
    return top


def _copied(module: nn.Module) -> nn.Module:
    """The same module object anew, sharing parameters, buffers and children, with a list of children of its own."""
    made = copy.copy(module)
    made.__dict__["_modules"] = dict(module._modules)
    if "_old_forward" in made.__dict__:  # accelerate bound the forward of the module that was copied
        made.__dict__.pop("forward", None)
    return made
