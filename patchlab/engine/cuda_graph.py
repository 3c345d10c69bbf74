"""A decode step with constant shapes and addresses, which a GPU can replay as one CUDA graph.

Every kernel of a small model takes less time than its launch; a graph launches all of them at once. Therefore the step reads the
whole block of keys and values, with the columns that are not yet written hidden by the mask, and the index of the column it
writes is itself a tensor. A step is valid for one layout of a batch: when rows leave or join, a new one is made. On a CPU the
same step runs without a graph, slower than the ordinary step and for tests only.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from patchlab.engine.masks import Masks
from patchlab.errors import ModelError

PATIENCE = 4  # steps of an unchanged layout before a graph is captured
WARM = 2  # runs before the capture, in which libraries allocate their workspaces


class StepBatch(Protocol):
    """The part of a batch that a step uses; `decode.Batch` implements it."""

    offsets: Tensor
    masks: Masks
    cache: Cache
    at: int

    def logits(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        """The model's logits [B, V] after ids [B, K]."""
        ...


class StaticStep:
    """The decode step of a batch in its present layout; invalid once rows have left or joined.

    The batch is an argument of every call and not stored: batch and step would form a reference cycle that keeps the keys and
    values alive.
    """

    def __init__(self, batch: StepBatch) -> None:
        device = batch.offsets.device
        self.ids = torch.zeros(len(batch.offsets), 1, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.ids)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.mask = batch.masks.fixed(batch.at)
        for layer in _layers(batch):
            layer.fix(self.column)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor

    def __call__(self, batch: StepBatch, ids: Tensor) -> Tensor:
        """Read one more token per forward row, ids [B, 1]; returns logits [B, V], which the next call overwrites.

        Raises ModelError for a model that cannot be captured in a graph.
        """
        self.ids.copy_(ids)
        self.positions.copy_((batch.offsets + batch.at)[:, None])
        self.column.fill_(batch.masks.front + batch.at)
        batch.masks.fixed(batch.at)
        if self.ids.device.type != "cuda":
            self.logits = self._forward(batch)
        else:
            if self.graph is None:
                self._capture(batch)
            self.graph.replay()  # type: ignore[union-attr]
        for layer in _layers(batch):
            layer.used += 1
        return self.logits

    def _forward(self, batch: StepBatch) -> Tensor:
        return batch.logits(self.ids, self.positions, self.mask)

    def _capture(self, batch: StepBatch) -> None:
        """Capture the step. Repeated runs are harmless: each writes the same values into the same column."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM):
                    self._forward(batch)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                self.logits = self._forward(batch)
        except RuntimeError as error:
            raise ModelError(f"a decode step that a CUDA graph cannot hold ({str(error).splitlines()[0][:200]})",
                             expected="a step that never waits for the GPU", do="set static to False on its backbone") from error
        self.graph = graph


def _layers(batch: StepBatch) -> list[Any]:
    return batch.cache.layers
