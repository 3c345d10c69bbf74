"""Gates: decide from the bare base's hidden state at the last prompt token whether a patch is on for the prompt.

The state is computed through a view of the model and not with hooks, so threads that share a base cannot affect each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from patchlab.engine.histories import History
from patchlab.engine.masks import Masks
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


def state_behind(backbone: Backbone, ids: Sequence[int], history: History, layers: Sequence[int]) -> Tensor:
    """As `states` for one prompt [layers, D] that begins with a history, of which no token is read again."""
    found = torch.empty(len(layers), backbone.width)

    def keep(k: int, out: Tensor) -> None:
        found[k] = out[0, -1].float().cpu()

    _read_on(backbone, watched(backbone.model, {layer: partial(keep, k) for k, layer in enumerate(layers)}), ids, history,
             depth=max(layers) + 1)
    return found


def read_history(backbone: Backbone, ids: Sequence[int], known: History | None = None) -> History:
    """The history of these tokens, read by the bare base as far as `known`, a beginning of it, does not contain them."""
    cache: Any = _read_on(backbone, backbone.model.base_model, ids, known, depth=len(backbone.layers))
    return History(tuple(ids), tuple(layer.keys[0] for layer in cache.layers), tuple(layer.values[0] for layer in cache.layers))


@torch.inference_mode()
def _read_on(backbone: Backbone, model: Any, ids: Sequence[int], known: History | None, *, depth: int) -> DynamicCache:
    """Run the first `depth` layers on the tokens after `known`; the cache then holds all tokens."""
    first, device = len(known or ()), backbone.device
    cache, mask = DynamicCache(), None  # without a config, so that sliding-window layers keep all tokens
    if known is not None:
        for k in range(depth):
            cache.update(known.keys[k][None], known.values[k][None], k)
        none = torch.zeros(1, dtype=torch.long, device=device)
        mask = Masks(backbone.model.config, torch.zeros(1, 0, dtype=backbone.dtype, device=device), none,
                     length=len(ids)).read(first, len(ids))
    model(input_ids=torch.tensor([ids[first:]], device=device), attention_mask=mask, past_key_values=cache, use_cache=True,
          position_ids=torch.arange(first, len(ids), device=device)[None])
    return cache


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of prompt indices, shortest first, of at most TOKENS padded tokens."""
    batch: list[int] = []
    for k in sorted(range(len(lengths)), key=lambda k: lengths[k]):
        if batch and (len(batch) + 1) * lengths[k] > TOKENS:
            yield batch
            batch = []
        batch.append(k)
    yield batch
