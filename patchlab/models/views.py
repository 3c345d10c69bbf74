"""Views of a model: copies of its module objects that share all parameters, with other decoder layers.

A view replaces forward hooks, which would act on every thread that uses the model: what one thread runs through a view does not
affect others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Callback = Callable[[Tensor], None]
Attend = Callable[..., Tensor]  # (layer, query, key, value, mask, scaling=, softcap=, sinks=) -> [B, H, Q, head width]


class _Wrapped(nn.Module):
    """A module around a decoder layer; attributes of the layer can be read from it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        """An attribute of the layer; some models read `attention_type`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class Checkpointed(_Wrapped):
    """A decoder layer with activation checkpointing: it saves its input and recomputes the rest in the backward pass.

    `gradient_checkpointing_enable` of transformers works in training mode only, in which dropout would be on.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the layer."""
        return checkpoint(self.layer, *args, use_reentrant=False, **kwargs)


class Watched(_Wrapped):
    """A decoder layer that also passes its output [B, T, D] to `callback`."""

    def __init__(self, layer: nn.Module, callback: Callback) -> None:
        super().__init__(layer)
        self.callback = callback

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the layer."""
        out = self.layer(*args, **kwargs)
        self.callback(out[0] if isinstance(out, tuple) else out)
        return out


def decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The dotted name and the list of a model's decoder layers."""
    count = model.config.num_hidden_layers
    return next((name, each) for name, each in model.named_modules() if isinstance(each, nn.ModuleList) and len(each) == count)


def watched(model: PreTrainedModel, callbacks: Mapping[int, Callback]) -> nn.Module:
    """The model up to the last layer in `callbacks`, without an output head; layer k passes its output to callbacks[k]."""
    base: Any = model.base_model
    name, layers = decoder_layers(base)
    return _with_layers(base, name, [Watched(layer, callbacks[k]) if k in callbacks else layer
                                     for k, layer in enumerate(layers[:max(callbacks) + 1])])


def checkpointed(model: PreTrainedModel) -> nn.Module:
    """The model with activation checkpointing in every decoder layer."""
    name, layers = decoder_layers(model)
    return _with_layers(model, name, [Checkpointed(layer) for layer in layers])


class _Selected(nn.Module):
    """An output head that is applied to some positions only: hidden states [B, T, D] to logits [1, N, V]."""

    def __init__(self, head: nn.Module, places: Tensor) -> None:
        super().__init__()
        self.head, self.places = head, places

    def forward(self, hidden: Tensor) -> Tensor:
        """The logits at the places, in row-major order."""
        out: Tensor = self.head(hidden[self.places])[None]
        return out


def predicting(model: Any, places: Tensor) -> nn.Module:
    """The model with logits [1, N, V] of the N positions where `places` [B, T] is True, instead of all positions."""
    head = model.get_output_embeddings()
    name = next(name for name, part in model.named_children() if part is head)
    new = _copied(model)
    new._modules[name] = _Selected(head, places)
    return new


def attending(model: PreTrainedModel, attend: Attend) -> nn.Module:
    """The model with `attend` instead of its own attention in every layer that supports other implementations."""
    config = copy.copy(model.config)
    config._attn_implementation_internal = INTERFACE
    name, layers = decoder_layers(model)
    return _with_layers(model, name, [_attending(layer, config, attend) for layer in layers])


def _attending(layer: nn.Module, config: Any, attend: Attend) -> nn.Module:
    new = _copied(layer)
    for name, part in layer.named_children():
        if hasattr(part, "layer_idx") and hasattr(part, "config"):
            own = new._modules[name] = _copied(part)
            own.__dict__.update(config=config, attend=attend)
    return new


def _dispatch(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, scaling: float | None = None,
              softcap: float | None = None, s_aux: Tensor | None = None, **others: Any) -> tuple[Tensor, None]:
    """The attention function of transformers' interface, which calls the one that its view was made with."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = module.attend(module.layer_idx, query, key, value, mask, scaling=scaling, softcap=softcap, sinks=s_aux)
    return out.transpose(1, 2), None


INTERFACE = "patchlab"
AttentionInterface.register(INTERFACE, _dispatch)


class _Adapted(_Wrapped):
    """A linear layer with a low-rank change of its output: x [..., in] -> [..., out]."""

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor) -> None:
        super().__init__(layer)
        self.__dict__.update(down=down, up=up)  # no parameters of the view, whose parameters are those of the model

    def forward(self, hidden: Tensor) -> Tensor:
        """The changed output."""
        out: Tensor = self.layer(hidden)
        return out + functional.linear(functional.linear(hidden, self.down), self.up)


class _AdaptedRun(_Adapted):
    """As `_Adapted`, for `count` consecutive rows of a batch of `size` from `first` on; other rows are not touched.

    Some families flatten a batch [B, T, in] to [B x T, in] before a layer.
    """

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor, first: int, count: int, size: int) -> None:
        super().__init__(layer, down.t(), up.t())
        self.first, self.count, self.size = first, count, size

    def forward(self, hidden: Tensor) -> Tensor:
        """The output, with that of the rows changed in place."""
        out: Tensor = self.layer(hidden)
        each = hidden.shape[0] // self.size
        first, count = self.first * each, self.count * each
        rows = hidden.narrow(0, first, count).view(-1, hidden.shape[-1])
        out.narrow(0, first, count).view(-1, out.shape[-1]).addmm_(torch.mm(rows, self.down), self.up)
        return out


class _AdaptedRows(_Adapted):
    """As `_AdaptedRun`, for any `rows` of a batch of `size`."""

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor, rows: Tensor, size: int) -> None:
        super().__init__(layer, down, up)
        self.__dict__.update(rows=rows, size=size)

    def forward(self, hidden: Tensor) -> Tensor:
        """The output, with that of the rows changed in place."""
        out: Tensor = self.layer(hidden)
        wide, new = hidden.view(self.size, -1, hidden.shape[-1]), out.view(self.size, -1, out.shape[-1])
        new.index_add_(0, self.rows, functional.linear(functional.linear(wide.index_select(0, self.rows), self.down), self.up))
        return out


def adapting(model: ModuleT, layers: Mapping[str, tuple[Tensor, Tensor]], rows: Sequence[int] = (), *,
             size: int = 0) -> ModuleT:
    """The model with low-rank changes (down [r, in], up [out, r]) of the linear layers of these names.

    They apply to every row, or with a `size` to these rows, in ascending order, of batches of that size, without gradients.
    """
    top = _copied(model)
    copies: dict[str, nn.Module] = {"": top}
    places = {device: torch.tensor(rows, device=device) for device in {down.device for down, _ in layers.values()}}
    for path, (down, up) in layers.items():
        *parents, last = path.split(".")
        module: Any = top
        at = ""
        for parent in parents:
            at = f"{at}.{parent}"
            if at not in copies:
                copies[at] = module._modules[parent] = _copied(module._modules[parent])
            module = copies[at]
        layer = module._modules[last]
        if not size:
            module._modules[last] = _Adapted(layer, down, up)
        elif rows[-1] - rows[0] == len(rows) - 1:  # without a copy of their inputs
            module._modules[last] = _AdaptedRun(layer, down, up, rows[0], len(rows), size)
        else:
            module._modules[last] = _AdaptedRows(layer, down, up, places[down.device], size)
    return top


def _with_layers(model: nn.Module, name: str, layers: Sequence[nn.Module]) -> nn.Module:
    """A copy of the model with other decoder layers; only the modules that contain the layer list are copied."""
    *parents, last = name.split(".")
    top = module = _copied(model)
    for parent in parents:
        module._modules[parent] = _copied(module._modules[parent])  # type: ignore[type-var]
        module = module._modules[parent]  # type: ignore[assignment]
    module._modules[last] = nn.ModuleList(layers)
    return top


def _copied(module: ModuleT) -> ModuleT:
    """A shallow copy that shares parameters, buffers and children, and whose children can be replaced independently."""
    new = copy.copy(module)
    new.__dict__["_modules"] = dict(module._modules)
    new.__dict__.pop("forward", None)  # one that accelerate or trl has bound to the original module
    return new
