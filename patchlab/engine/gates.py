"""Gates: decide from the bare base's hidden state at the last prompt token whether a patch is on for the prompt.

The state is computed through a view of the model and not with hooks, so threads that share a base cannot affect each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from patchlab.errors import PatchFormatError
from patchlab.models import Backbone
from patchlab.models.views import watched
from patchlab.patches import Gate

TOKENS = 8192  # padded prompt tokens per batch


def check_gate(backbone: Backbone, gate: Gate, *, patch: str) -> None:
    """Raise PatchFormatError for a gate whose width or layer this base does not have."""
    if len(gate.weight) != backbone.width or gate.layer >= len(backbone.layers):
        raise PatchFormatError(f"a gate of width {len(gate.weight)} on layer {gate.layer} in patch {patch}",
                               expected=f"width {backbone.width} and a layer below {len(backbone.layers)} ({backbone.name})",
                               do="get the patch again from its vendor, or leave gates off")


def score(gate: Gate, state: Tensor) -> float:
    """The gate's linear score of a prompt's state [D] on its layer; below 0 the patch is left off."""
    return float(state @ torch.from_numpy(gate.weight.copy())) + gate.bias


@torch.inference_mode()
def states(backbone: Backbone, prompts: Sequence[Sequence[int]], layers: Sequence[int]) -> Tensor:
    """The bare base's hidden states [N, layers, D] (float32, on the CPU) at the last token of prompts given as token ids.

    Prompts of similar length form a batch, padded on the right, where causal attention ignores the padding.
    """
    found = torch.empty(len(prompts), len(layers), backbone.width)

    def keep(places: Sequence[int], k: int, out: Tensor) -> None:
        last = torch.tensor([len(prompts[place]) - 1 for place in places])
        found[places, k] = out[torch.arange(len(places)), last].float().cpu()

    for places in _alike([len(ids) for ids in prompts]):
        model = watched(backbone.model, {layer: partial(keep, places, k) for k, layer in enumerate(layers)})
        some = [torch.tensor(prompts[place]) for place in places]
        ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True).to(backbone.device)
        model(input_ids=ids, position_ids=torch.arange(ids.shape[1], device=ids.device)[None], use_cache=False)
    return found


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of prompt indices, shortest first, of at most TOKENS padded tokens."""
    batch: list[int] = []
    for k in sorted(range(len(lengths)), key=lambda k: lengths[k]):
        if batch and (len(batch) + 1) * lengths[k] > TOKENS:
            yield batch
            batch = []
        batch.append(k)
    yield batch
