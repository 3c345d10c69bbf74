"""A decode step whose shapes and addresses never change, so that a GPU can replay it as one CUDA graph.

Every kernel of a small model takes less time than its launch; a graph launches them all at once. For this the step reads the
whole block of keys and values, with the columns not written yet hidden by the mask, and the column it writes is itself a
tensor. It holds for one layout of a batch: when rows leave or join, the next one is begun. On a CPU the same step runs without
a graph, which only costs; that is how it is tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchlab.errors import ModelError

if TYPE_CHECKING:
    from patchlab.engine.decode import Batch

PATIENCE = 4  # steps of one layout before a graph of it is worth making
WARM = 2  # runs before the capture, in which libraries take the memory they keep


class StaticStep:
    """The decode step of a batch as it is laid out now; not to be used after the batch was laid anew.

    It is given the batch at every call and does not keep it: each would keep the other, and keys and values with them.
    """

    def __init__(self, batch: Batch) -> None:
        device = batch.offsets.device
        self.ids = torch.zeros(len(batch.forward_rows), 1, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.ids)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.mask = batch.masks.fixed(batch.at)
        for layer in _layers(batch):
            layer.fix(self.column)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor

    def __call__(self, batch: Batch, ids: Tensor) -> Tensor:
        """Read one more token a forward row, ids [B, 1]; returns logits [B, V], which the next call overwrites.

        Raises ModelError for a model that a graph cannot hold.
        """
        self.ids.copy_(ids)
        self.positions.copy_((batch.offsets + batch.at)[:, None])
        self.column.fill_(batch.masks.bias.shape[1] + batch.at)
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

    def _forward(self, batch: Batch) -> Tensor:
        return batch.logits(self.ids, self.positions, self.mask)

    def _capture(self, batch: Batch) -> None:
        """Record the step. It may run any number of times before: it writes the same column with the same numbers."""
        graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(aside):
                for _ in range(WARM):
                    self._forward(batch)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(graph):
                self.logits = self._forward(batch)
        except RuntimeError as error:
            raise ModelError(f"a decode step that a CUDA graph cannot hold ({str(error).splitlines()[0][:200]})",
                             expected="a step that never waits for the GPU", do="set static to False on its backbone") from error
        self.graph = graph


def _layers(batch: Batch) -> list[Any]:
    return batch.cache.layers


__all__ = ["PATIENCE", "StaticStep"]
