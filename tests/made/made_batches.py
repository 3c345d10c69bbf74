"""Compiled patches, batches read and stepped by hand, and streams put together: what the laws of the engine are held on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from made_models import make_patch, some_ids
from torch import Tensor

from patchlab.engine import BARE, Sampling, Scheduler, Segment, StackPlan, blend, compile_prefix
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.waiting_line import Job
from patchlab.models import Backbone
from patchlab.records import Delta, Prompt

ATOL = 1e-5
MORE = some_ids(12, seed=99)  # what the rows go on with
LONG = Sampling(temperature=1.0, max_new_tokens=40, seed=2)


def prefix_of(backbone: Backbone, name: str, length: int) -> Tensor:
    """The prefix [P, D] of a made patch."""
    return torch.tensor(make_patch(backbone, name, length=length).prefix)


@torch.no_grad()
def segment_of(backbone: Backbone, name: str = "a", length: int = 5) -> Segment:
    """A made patch, compiled."""
    return compile_prefix(backbone, prefix_of(backbone, name, length))


def plans_of(backbone: Backbone) -> list[StackPlan]:
    """Eight plans: the base, stacks of one and two patches side by side, and blends of one and two."""
    patches = (("a", 5, 1.0), ("b", 11, 0.5), ("c", 3, 2.0))
    on = [(segment_of(backbone, name, length), strength) for name, length, strength in patches]
    return [BARE, StackPlan.of(on[0]), StackPlan(blend(on[:2])), StackPlan.of(*on[1:]), BARE, StackPlan.of(on[2]),
            StackPlan(blend(on[2:])), StackPlan.of(*on)]


def decoded(backbone: Backbone, rows: Sequence[BatchRow], more: Sequence[int] = MORE) -> Tensor:
    """Logits [steps, B, V] of a batch that reads its prompts and then the same tokens in every row."""
    batch = Batch(backbone, rows, room=len(more) + 1)
    return torch.stack([batch.prefill(), *(batch.step([token] * len(rows)) for token in more)])


def assert_near(got: Tensor, expected: Tensor, *, atol: float = ATOL) -> None:
    """Equal to `atol`, whatever the numbers' size and precision."""
    torch.testing.assert_close(got, expected, atol=atol, rtol=0, check_dtype=False)


def drained(job: Job) -> list[Delta]:
    """All that is still to come of a job."""
    found: list[Delta] = []
    while deltas := job.take():
        found += deltas
    return found


def texts(steps: Iterable[tuple[Delta, ...]]) -> dict[tuple[str, int], str]:
    """What each row of each lane of a stream says."""
    found: dict[tuple[str, int], str] = {}
    for step in steps:
        for delta in step:
            found[delta.lane, delta.row] = found.get((delta.lane, delta.row), "") + delta.text
    return found


def asked(scheduler: Scheduler, *prompts: Prompt, plan: StackPlan = BARE, sampling: Sampling = LONG) -> Job:
    """A job with a request for each prompt."""
    return scheduler.open([scheduler.request("lane", k, prompt, plan, sampling=sampling) for k, prompt in enumerate(prompts)])


def joined(deltas: Iterable[Delta], row: int = 0) -> str:
    """What one row says."""
    return "".join(delta.text for delta in deltas if delta.row == row)


def text_alone(backbone: Backbone, prompt: Prompt, plan: StackPlan = BARE, sampling: Sampling = LONG) -> str:
    """What a row says that has a scheduler to itself."""
    scheduler = Scheduler(backbone)
    return joined(drained(scheduler.open([scheduler.request("alone", 0, prompt, plan, sampling=sampling)])))
