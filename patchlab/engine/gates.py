"""Gates: whether a patch is on for a prompt, decided on the bare base's state at the prompt's last token.

A lane or a request may ask for a `Gated` stack. It becomes parts, row by row, right before the rows are read: one bare
forward of their prompts, and none where no gate is asked for. From there on nothing knows that gates exist, so a row whose
gates let its prompt through is the row of a stack without those patches, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from patchlab.engine.forward_rows import Parts
from patchlab.errors import PatchFormatError
from patchlab.models.backbone import Backbone
from patchlab.patches import Gate

TOKENS = 8192  # padded prompt tokens read together


@dataclass(frozen=True, slots=True, eq=False)
class Gated:
    """A stack some of whose patches have gates: these by the patch's name, and the parts of the stack without some patches."""

    gates: Mapping[str, Gate]
    without: Callable[[Collection[str]], Parts]


Wanted = Parts | Gated  # what a lane or a request asks for


def whole(asked: Wanted) -> Parts:
    """The parts where no gate lets a prompt through: no other prompt takes more rows or positions."""
    return asked.without(()) if isinstance(asked, Gated) else asked


def check_gate(backbone: Backbone, gate: Gate, *, patch: str) -> None:
    """Raise PatchFormatError for a gate that reads what this base has not."""
    if len(gate.weight) != backbone.width or gate.layer >= len(backbone.layers):
        raise PatchFormatError(f"a gate of width {len(gate.weight)} on layer {gate.layer} in patch {patch}",
                               expected=f"width {backbone.width} and a layer below {len(backbone.layers)} ({backbone.name})",
                               do="get the patch again from its vendor, or leave gates off")


def resolved(backbone: Backbone, rows: Sequence[tuple[Sequence[int], Wanted]]) -> list[Parts]:
    """The parts of rows, each given as a prompt's token ids and what is asked for it."""
    through = let_through(backbone, [(ids, asked.gates if isinstance(asked, Gated) else {}) for ids, asked in rows])
    return [asked.without(names) if isinstance(asked, Gated) else asked
            for (_, asked), names in zip(rows, through, strict=True)]


def let_through(backbone: Backbone, rows: Sequence[tuple[Sequence[int], Mapping[str, Gate]]]) -> list[tuple[str, ...]]:
    """Which of its gates let each prompt through, by name; prompts are token ids.

    A state that is no number lets nothing through: the patch stays on.
    """
    # samples of one prompt are decided once
    prompts = list(dict.fromkeys(tuple(ids) for ids, gates in rows if gates))
    layers = sorted({gate.layer for _, gates in rows for gate in gates.values()})
    if not prompts:
        return [()] * len(rows)
    read = dict(zip(prompts, states(backbone, prompts, layers), strict=True))
    return [tuple(name for name, gate in gates.items() if score(gate, read[tuple(ids)][layers.index(gate.layer)]) < 0)
            for ids, gates in rows]


def score(gate: Gate, state: Tensor) -> float:
    """What a gate says of a prompt's state [D] on its layer: below 0 it lets the prompt through."""
    return float(state @ torch.from_numpy(gate.weight.copy())) + gate.bias


@torch.inference_mode()
def states(backbone: Backbone, prompts: Sequence[Sequence[int]], layers: Sequence[int]) -> Tensor:
    """The bare base's states [N, layers, D] (float32, on the CPU) at the last token of prompts given as token ids.

    Prompts of like length are read together, padded on the right, where nothing they see is changed.
    """
    found = torch.empty(len(prompts), len(layers), backbone.width)
    for places in _alike([len(ids) for ids in prompts]):
        some = [torch.tensor(prompts[k]) for k in places]
        ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True).to(backbone.device)
        last = torch.tensor([len(one) - 1 for one in some], device=ids.device)
        with _kept(backbone, layers, last) as kept:
            backbone.model.base_model(input_ids=ids, position_ids=torch.arange(ids.shape[1], device=ids.device)[None],
                                      use_cache=False)
        found[places] = torch.stack([kept[layer] for layer in layers], dim=1).float().cpu()
    return found


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of prompts, shortest first, as many at a time as there are tokens for."""
    some: list[int] = []
    for k in sorted(range(len(lengths)), key=lambda k: lengths[k]):
        if some and (len(some) + 1) * lengths[k] > TOKENS:
            yield some
            some = []
        some.append(k)
    yield some


@contextmanager
def _kept(backbone: Backbone, layers: Sequence[int], last: Tensor) -> Iterator[dict[int, Tensor]]:
    """While open, a forward leaves here what these layers give at each row's token `last`, [B, D] each, and no more."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int, module: Any, inputs: Any, output: Any) -> None:
        out = output[0] if isinstance(output, tuple) else output
        kept[layer] = out[torch.arange(len(last), device=out.device), last.to(out.device)]

    hooks = [backbone.layers[layer].register_forward_hook(partial(keep, layer)) for layer in layers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
