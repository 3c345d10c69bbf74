"""The bank: patches compiled once into keys and values, which attention masks switch on and off."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from patchlab.engine.masks import smallest
from patchlab.errors import ContextError, PatchFormatError, StackError
from patchlab.models.backbone import Backbone
from patchlab.patches import Patch

log = logging.getLogger(__name__)

BUDGET = 2 << 30  # bytes of keys and values a bank keeps


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One compiled patch, or several compiled jointly: for each layer keys and values [H, P, head width]."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    room: int = 0  # positions left free before the text, as later patches of a sequence would take

    @property
    def length(self) -> int:
        """P, the number of slots."""
        return self.keys[0].shape[1]

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))


def compile_prefix(backbone: Backbone, prefix: Tensor, *, first: int = 0) -> Segment:
    """Run a prefix [P, D] through the base at positions `first`..`first`+P-1 and keep its keys and values.

    The segment is differentiable with respect to `prefix`. A prefix does not attend to the text, so one compilation is valid for
    every row of every batch. Raises PatchFormatError for another width, ContextError for too many positions.
    """
    _check_width(backbone, prefix.shape)
    length = prefix.shape[0]
    if length > backbone.context:
        raise ContextError(f"{length:,} positions needed by the patch alone",
                           expected=f"at most {backbone.context:,} available", do="stack fewer or shorter patches")
    cache = DynamicCache()  # without a config, so that sliding-window layers keep the whole prefix
    place = torch.arange(length, device=prefix.device)
    causal = torch.zeros(length, length, dtype=backbone.dtype, device=prefix.device)
    causal = causal.masked_fill(place[None] > place[:, None], smallest(backbone.dtype))[None, None]
    kinds = set(getattr(backbone.model.config, "layer_types", None) or [])
    mask = dict.fromkeys(kinds, causal) if "sliding_attention" in kinds else causal
    backbone.model(inputs_embeds=prefix.to(backbone.dtype)[None], attention_mask=mask, position_ids=place[None] + first,
                   past_key_values=cache, use_cache=True, logits_to_keep=1)
    layers: list[Any] = cache.layers
    return Segment(tuple(layer.keys[0] for layer in layers), tuple(layer.values[0] for layer in layers))


def _check_width(backbone: Backbone, shape: Sequence[int], *, patch: str = "") -> None:
    if len(shape) != 2 or shape[1] != backbone.width:
        raise PatchFormatError(f"a prefix of shape {list(shape)}{patch and f' in patch {patch}'}",
                               expected=f"[P, D] with D={backbone.width} ({backbone.name})",
                               do="use a patch made for this base")


class Bank:
    """A cache of the compiled patches of one backbone, by patch digests, with least-recently-used eviction."""

    def __init__(self, backbone: Backbone, *, budget: int = BUDGET) -> None:
        self.backbone, self.budget = backbone, budget
        self._segments: OrderedDict[tuple[str, ...], Segment] = OrderedDict()
        self._names: dict[tuple[str, ...], str] = {}  # for the log
        self._lock = threading.RLock()
        self.compilations = 0  # counted for tests: toggling a patch compiles nothing

    def segment(self, patches: Sequence[Patch]) -> Segment:
        """The segment of one patch, or of several concatenated in this order; compiled at first use.

        Above the budget of bytes the least recently used segments are evicted with a log entry.
        Raises BaseMismatchError for a patch of another base, PatchFormatError for one of another width or whose keys and
        values are not finite, ContextError for too many positions, StackError if one segment exceeds the budget.
        """
        names = [f"{patch.manifest.name} {patch.manifest.version}" for patch in patches]
        for name, patch in zip(names, patches, strict=True):  # also for compiled patches
            self.backbone.check_patch(patch.manifest.base, patch=name)
            _check_width(self.backbone, patch.prefix.shape, patch=name)
        with self._lock:
            key = tuple(patch.digest for patch in patches)
            if key not in self._segments:
                self._segments[key], self._names[key] = self._compiled(patches, names), " + ".join(names)
            self._segments.move_to_end(key)
            segment = self._segments[key]
            self._evict()
        return segment

    def _compiled(self, patches: Sequence[Patch], names: Sequence[str]) -> Segment:
        prefix = torch.cat([torch.from_numpy(patch.prefix.copy()) for patch in patches])  # a patch's array is read-only
        with torch.no_grad():
            segment = compile_prefix(self.backbone, prefix.to(self.backbone.device))
        self.compilations += 1
        if not all(bool(each.isfinite().all()) for each in (*segment.keys, *segment.values)):
            # 0 x NaN = NaN: even a masked slot that is not finite would corrupt the attention sum of every row
            raise PatchFormatError(f"patch {' + '.join(names)}, whose keys and values overflow in {self.backbone.dtype}",
                                   expected="finite numbers", do="load the base in a wider precision, or leave the patch out")
        if segment.size > self.budget:
            raise StackError(f"patches that take {segment.size:,} bytes compiled",
                             expected=f"at most the bank's budget of {self.budget:,}", do="raise the budget")
        return segment

    def _evict(self) -> None:
        evicted = []
        while self.size > self.budget:
            key, _ = self._segments.popitem(last=False)
            evicted.append(self._names.pop(key))
        if evicted:
            log.warning("the bank exceeded its budget of %s bytes and evicted the least recently used patches: %s; they are "
                        "compiled again when needed", f"{self.budget:,}", ", ".join(evicted))

    @property
    def size(self) -> int:
        """Bytes of all keys and values."""
        return sum(segment.size for segment in self._segments.values())

    def __len__(self) -> int:
        return len(self._segments)
