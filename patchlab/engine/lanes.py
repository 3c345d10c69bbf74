"""Streams any number of lanes over any number of prompts, one step of all lanes at a time.

Lanes with the same scheduler share its batch; lanes of different models take their steps alternately.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from patchlab.engine.plan import BARE, StackPlan
from patchlab.engine.sampler import Sampling
from patchlab.engine.scheduler import Scheduler
from patchlab.engine.waiting_line import Job
from patchlab.engine.written_rows import Request
from patchlab.errors import InputError, ModelError
from patchlab.models import Backbone
from patchlab.records import Delta, Message, Prompt, Reply

Plans = Callable[[Sequence[Prompt]], Sequence[StackPlan]]  # the plan of each prompt


def fixed(plan: StackPlan) -> Plans:
    """The same plan for every prompt."""
    return lambda prompts: [plan] * len(prompts)


def unpatched(prompts: Sequence[Prompt]) -> list[StackPlan]:
    """The bare base for every prompt."""
    return [BARE] * len(prompts)


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One column of a comparison: a name, the scheduler of its model, and the plan for each prompt.

    `adapted` is the model of a lane whose rows ride in the batches of another, the base with an adapter. `earlier` are the turns
    of a conversation that this lane had: it reads every prompt behind them.
    """

    name: str
    scheduler: Scheduler
    plans: Plans = unpatched
    adapted: Backbone | None = None
    earlier: tuple[Message, ...] = ()

    @property
    def backbone(self) -> Backbone:
        """The model of this lane."""
        return self.adapted or self.scheduler.backbone

    def read(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts behind this lane's own earlier turns. Raises InputError for a text to continue behind any."""
        return [replace(prompt, earlier=self.earlier + prompt.earlier) for prompt in prompts] if self.earlier else [*prompts]


def stream(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1, sampling: Sampling | None = None,
           stop: Callable[[], bool] = lambda: False) -> Generator[tuple[Delta, ...], None, None]:
    """Yield one tuple of deltas per step until every row has stopped; row = prompt index x samples + sample.

    Closing the generator frees its keys and values. `stop` is called before every step, also while requests are queued; True ends
    the stream. Raises InputError or ContextError before the first step. A row whose logits are not finite stops with "error";
    the other rows are not affected.
    """
    sampling = sampling or Sampling()
    if not (lanes and prompts and samples >= 1):
        raise InputError(f"{len(lanes)} lanes, {len(prompts)} prompts and {samples} samples", expected="one or more of each",
                         do="add what is missing")
    names = [lane.name for lane in lanes]
    if len({*names}) < len(names):
        raise InputError(f"lanes {', '.join(names)}", expected="each name once", do="ask for more samples instead")
    groups: dict[int, list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(id(lane.scheduler), []).append(lane)
    requests = [(each[0].scheduler, _requests(each, prompts, samples, sampling)) for each in groups.values()]
    return _steps(requests, names, stop)


def _requests(lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int, sampling: Sampling) -> list[Request]:
    """The requests of the lanes of one scheduler, ordered by prompt, so that all lanes of a prompt are in the batch together."""
    scheduler = lanes[0].scheduler
    read = [lane.read(prompts) for lane in lanes]
    encoded = {prompt: scheduler.backbone.encode_turns(prompt) for prompt in dict.fromkeys(chain(*read))}
    plans = [lane.plans(some) for lane, some in zip(lanes, read, strict=True)]
    return [scheduler.request(lane.name, k * samples + sample, some[k], lane_plans[k], sampling=sampling, sample=sample,
                              encoded=encoded[some[k]])
            for k in range(len(prompts)) for lane, some, lane_plans in zip(lanes, read, plans, strict=True)
            for sample in range(samples)]


def _steps(requests: Sequence[tuple[Scheduler, list[Request]]],
           order: Sequence[str], stop: Callable[[], bool]) -> Generator[tuple[Delta, ...], None, None]:
    place = {name: k for k, name in enumerate(order)}
    jobs: list[Job] = []
    try:
        for scheduler, some in requests:
            jobs.append(scheduler.open(some, stop=stop))
        while deltas := [delta for job in jobs for delta in job.take()]:
            # a row has several deltas if other clients took steps; a stable sort keeps their order
            yield tuple(sorted(deltas, key=lambda delta: (place[delta.lane], delta.row)))
    finally:
        for job in jobs:
            job.close()


def finished(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1,
             sampling: Sampling | None = None) -> Iterator[Reply]:
    """Yield each reply as soon as its row has stopped.

    Raises ModelError if a row fails, so that an incomplete text cannot be mistaken for a reply.
    """
    texts: dict[tuple[str, int], list[str]] = {}
    for step in stream(lanes, prompts, samples=samples, sampling=sampling):
        for delta in step:
            if delta.stop == "error":
                raise ModelError(f"lane {delta.lane!r} failed: {delta.error}", expected="finite numbers",
                                 do="load the model in another precision, or switch its patches off")
            texts.setdefault((delta.lane, delta.row), []).append(delta.text)
            if delta.done:
                text = "".join(texts.pop((delta.lane, delta.row))).strip()
                yield Reply(delta.lane, delta.row, prompts[delta.row // samples], delta.row % samples, text, delta.tokens,
                            delta.stop or "end")


def replies(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1,
            sampling: Sampling | None = None) -> list[Reply]:
    """All finished replies, by lane and row."""
    place = {lane.name: k for k, lane in enumerate(lanes)}
    return sorted(finished(lanes, prompts, samples=samples, sampling=sampling),
                  key=lambda reply: (place[reply.lane], reply.row))
