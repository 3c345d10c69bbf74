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
    from patchlab.engine.batch import Batch

PATIENCE = 4  # steps of one layout before a graph of it is worth making
WARM = 2  # runs before the capture, in which libraries take the memory they keep


class StaticStep:
    """The decode step of a batch as it is laid out now; not to be used after the batch was laid anew."""

    def __init__(self, batch: Batch) -> None:
        self.batch, device = batch, batch.offsets.device
        self.ids = torch.zeros(len(batch.voices), 1, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.ids)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.mask = batch.masks.fixed(batch.at)
        for layer in self._layers:
            layer.fix(self.column)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor

    @property
    def _layers(self) -> list[Any]:
        return self.batch.cache.layers

    def __call__(self, ids: Tensor) -> Tensor:
        """Read one more token a voice, ids [B, 1]; returns logits [B, V], which the next call overwrites.

        Raises ModelError for a model that a graph cannot hold.
        """
        batch = self.batch
        self.ids.copy_(ids)
        self.positions.copy_((batch.offsets + batch.at)[:, None])
        self.column.fill_(batch.masks.bias.shape[1] + batch.at)
        batch.masks.fixed(batch.at)
        if self.ids.device.type != "cuda":
            self.logits = self._forward()
        else:
            if self.graph is None:
                self._capture()
            self.graph.replay()  # type: ignore[union-attr]
        for layer in self._layers:
            layer.used += 1
        return self.logits

    def _forward(self) -> Tensor:
        return self.batch.logits(self.ids, self.positions, self.mask)

    def _capture(self) -> None:
        """Record the step. It may run any number of times before: it writes the same column with the same numbers."""
        graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(aside):
                for _ in range(WARM):
                    self._forward()
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(graph):
                self.logits = self._forward()
        except RuntimeError as error:
            raise ModelError(f"a decode step that a CUDA graph cannot hold ({str(error).splitlines()[0][:200]})",
                             expected="a step that never waits for the GPU", do="set static to False on its backbone") from error
        self.graph = graph


__all__ = ["PATIENCE", "StaticStep"]
