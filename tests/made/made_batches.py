"""Compiled patches, batches read and stepped by hand, and streams put together: what the laws of the engine are held on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from made_models import make_patch, some_ids
from torch import Tensor

from patchlab.engine import Segment, compile_prefix
from patchlab.engine.decode import Batch, Row
from patchlab.models import Backbone
from patchlab.records import Delta

ATOL = 1e-5
MORE = some_ids(12, seed=99)  # what the rows go on with


def prefix_of(backbone: Backbone, name: str, length: int) -> Tensor:
    """The prefix [P, D] of a made patch."""
    return torch.tensor(make_patch(backbone, name, length=length).prefix)


@torch.no_grad()
def segment_of(backbone: Backbone, name: str = "a", length: int = 5) -> Segment:
    """A made patch, compiled."""
    return compile_prefix(backbone, prefix_of(backbone, name, length))


def decoded(backbone: Backbone, rows: Sequence[Row], more: Sequence[int] = MORE) -> Tensor:
    """Logits [steps, B, V] of a batch that reads its prompts and then the same tokens in every row."""
    batch = Batch(backbone, rows, room=len(more) + 1)
    return torch.stack([batch.prefill(), *(batch.step([token] * len(rows)) for token in more)])


def assert_near(got: Tensor, expected: Tensor, *, atol: float = ATOL) -> None:
    """Equal to `atol`, whatever the numbers' size and precision."""
    torch.testing.assert_close(got, expected, atol=atol, rtol=0, check_dtype=False)


def texts(steps: Iterable[tuple[Delta, ...]]) -> dict[tuple[str, int], str]:
    """What each row of each lane of a stream says."""
    found: dict[tuple[str, int], str] = {}
    for step in steps:
        for delta in step:
            found[delta.lane, delta.row] = found.get((delta.lane, delta.row), "") + delta.text
    return found
