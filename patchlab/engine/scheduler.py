"""Continuous batching for one backbone: requests of any number of clients, each with its own stack, seed, length, stop strings.

    scheduler = Scheduler(backbone)
    job = scheduler.open([scheduler.request("patched", 0, Prompt("hello"), plan)])
    while deltas := job.take():
        ...

The scheduler has no thread: the client that calls `take` first runs a step for all clients, and those that wait find their deltas
afterwards. A row's tokens do not depend on the other rows, on the step it joined at or on its place in the batch. Requests are
admitted round-robin over clients, within limits of forward rows and of bytes of keys and values.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch

from patchlab.engine.decode import Batch
from patchlab.engine.histories import Histories
from patchlab.engine.joining import Joining
from patchlab.engine.plan import BARE, StackPlan
from patchlab.engine.sampler import RowKey, Sampling
from patchlab.engine.segments import compile_prefix
from patchlab.engine.waiting_line import Job, WaitingLine, piece
from patchlab.engine.written_rows import Request, WrittenRow, draw
from patchlab.errors import ContextError, InputError, ModelError, StackError
from patchlab.models import Backbone
from patchlab.models.chat import Encoded
from patchlab.records import Delta, Prompt

WHOLE = 8192  # prompt tokens read in one pass if no other client waits


class Scheduler:
    """Runs at most `rows` forward rows and `memory` bytes of keys and values at a time; at most `waiting` jobs are queued.

    A blended request takes one row of the base and one per patch. By default `memory` is a quarter of the free GPU memory, on a
    CPU 4 GiB.
    """

    def __init__(self, backbone: Backbone, *, rows: int = 96, memory: int | None = None, waiting: int = 256) -> None:
        for name, value in (("rows", rows), ("waiting", waiting), ("bytes of memory", 1 if memory is None else memory)):
            if value < 1:
                raise InputError(f"{value} {name}", expected="1 or more", do=f"raise {name}")
        self.backbone = backbone
        self._batch: Batch | None = None
        self._written: list[WrittenRow[Job]] = []  # the rows of the batch
        self._joining: Joining[Job] | None = None  # requests whose prompts are being read
        self.histories = Histories()
        self._apart: list[list[tuple[Job, Request]]] = []  # requests to be read separately after an error, the next one last
        self._lock, self._busy = threading.RLock(), False
        with torch.no_grad():  # measured, since it depends on the model's cache layout
            token_bytes = compile_prefix(backbone, backbone.embeddings[:1].detach().float()).size
        self._line = WaitingLine(rows=rows, memory=memory or _free_memory(backbone.device), waiting=waiting,
                                 token_bytes=token_bytes)

    def request(self, lane: str, row: int, prompt: Prompt, plan: StackPlan = BARE, *, sampling: Sampling | None = None,
                sample: int = 0, encoded: Encoded | None = None) -> Request:
        """A validated request for one reply, the `sample`-th of its prompt; `encoded` are the prompt's ids, if already known.

        Raises InputError or ContextError for a prompt that cannot be decoded, StackError for a plan of too many rows.
        """
        sampling = sampling or Sampling()
        ids, frame, turn = encoded or self.backbone.encode_turns(prompt)
        if not plan.anchors(self.backbone):
            frame = turn = 0  # the whole conversation is one text behind the slots
        needed = (0 if turn else plan.start) + len(ids) + sampling.max_new_tokens
        if needed > self.backbone.context:
            characters = sum(len(message.content) for message in prompt.messages)
            raise ContextError(
                f"{needed:,} tokens needed by lane {lane!r} ({len(ids):,} for the prompt's {characters:,} characters, "
                f"{sampling.max_new_tokens:,} for the reply, {0 if turn else plan.start} for the patch)",
                expected=f"at most {self.backbone.context:,} available",
                do="leave out the oldest turns, or begin a new conversation" if prompt.earlier
                else "shorten the prompt or ask for a shorter reply")
        if len(plan.rows) > self._line.rows:
            raise StackError(f"a blend that takes {len(plan.rows)} rows", expected=f"at most {self._line.rows}",
                             do="blend fewer patches, or use parallel mode, which takes one row")
        key = RowKey.of(prompt, sample=sample, seed=sampling.seed)
        request = Request(lane, row, tuple(ids), plan, key, sampling, frame, turn)
        if (size := self._line.size([request])) > self._line.memory:
            raise ContextError(f"{size:,} bytes of keys and values needed by lane {lane!r}",
                               expected=f"at most {self._line.memory:,}",
                               do="shorten the prompt or the reply, or blend fewer patches")
        return request

    def open(self, requests: Iterable[Request], *, stop: Callable[[], bool] = lambda: False) -> Job:
        """Queue requests; the job yields their deltas until `stop` returns True. Raises BusyError if the queue is full."""
        job = Job(self, iter(requests), stop)
        with self._lock:
            self._line.add(job)
        return job

    @property
    def in_flight(self) -> int:
        """The number of forward rows in use."""
        running = len(self._batch.forward_rows) if self._batch else 0
        return running + (self._joining.count if self._joining else 0)

    def _take(self, job: Job) -> tuple[Delta, ...]:
        while True:
            with self._lock:
                if job.deltas:
                    found, job.deltas = tuple(job.deltas), []
                    return found
                if job.error:
                    raise job.error
                if job.stop():
                    job.close()
                if job.closed or (not job.running and job not in self._line.jobs):
                    return ()
                self._step()

    def _step(self) -> None:
        """Decode one token of every running row, and read a part of the prompts of joining rows."""
        with self._whole():
            self._advance()
            self._join()
        self._sweep()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Block other changes of the batch inside; if the block is interrupted, the batch is discarded."""
        self._busy = True
        try:
            yield
        except BaseException as error:  # an interrupt of this thread; errors of the model are handled inside
            rows = [*self._written, *(self._joining.rows if self._joining else [])]
            self._batch, self._written, self._joining = None, [], None
            _fail(rows, ModelError(f"a batch that was interrupted ({type(error).__name__})", expected="a complete step",
                                   do="try again"))
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            self._busy = False

    def _advance(self) -> None:
        if self._batch is None:
            return
        try:
            logits = self._batch.step([row.token for row in self._written])
        except Exception as error:
            rows, self._batch, self._written = self._written, None, []
            _fail(rows, error)
            return
        self._keep(self._deliver(draw(logits, self._written), self._written))

    def _join(self) -> None:
        """Admit requests, read a part of their prompts, and add them to the running batch once they are read."""
        if self._joining is None:
            admitted = self._apart.pop() if self._apart else self._line.admitted(self._batch)
            if not admitted:
                return
            self._joining = Joining(self.backbone, self.histories,
                                    [WrittenRow(self.backbone, request, job) for job, request in admitted])
        rows, count = self._joining.rows, self._joining.count
        others = self._batch is not None and len({id(row.owner) for row in (*self._written, *rows)}) > 1
        try:
            logits = self._joining.read(piece(count) if others else max(1, WHOLE // count))
        except Exception as error:
            self._joining = None
            self._unread(rows, error)
            return
        if logits is None:
            return
        batch, self._joining = self._joining.batch, None
        going = self._deliver(draw(logits, rows), rows)
        if going and len(going) < len(rows):
            batch.keep(going)
        if going and self._batch is not None:
            self._batch.join(batch)
        elif going:
            self._batch = batch
        self._written += [rows[k] for k in going]

    def _unread(self, rows: Sequence[WrittenRow[Job]], error: Exception) -> None:
        """Handle an error in reading these prompts: fail a single client, or read those of several clients separately."""
        jobs = {id(row.owner): row.owner for row in rows}
        if len(jobs) == 1:
            _fail(rows, error)
        else:
            self._apart += [[(job, row.request) for row in rows if row.owner is job] for job in reversed(jobs.values())]

    def _deliver(self, deltas: Sequence[Delta], rows: Sequence[WrittenRow[Job]]) -> list[int]:
        """Append each row's delta to its job; returns the indices of unfinished rows."""
        going = []
        for k, (row, delta) in enumerate(zip(rows, deltas, strict=True)):
            if not row.owner.closed:
                row.owner.deltas.append(delta)
            if delta.done:
                row.owner.running -= 1
            else:
                going.append(k)
        return going

    def _keep(self, going: Sequence[int]) -> None:
        if not going:
            self._batch, self._written = None, []
        elif self._batch is not None and len(going) < len(self._written):
            self._batch.keep(going)
            self._written = [self._written[k] for k in going]

    def _cancel(self, job: Job, row: int) -> None:
        job.cancelled.add(row)
        with self._lock:
            self._sweep()

    def _close(self, job: Job) -> None:
        job.closed, job.requests = True, iter(())
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        """Free cancelled and closed requests; inside a step or another sweep of this thread, the end of that does it.

        The garbage collector may close a job at any moment.
        """
        while not self._busy and self._unwanted:
            with self._whole():
                self._line.jobs = deque(job for job in self._line.jobs if not job.closed)
                if self._joining and all(row.unwanted for row in self._joining.rows):
                    rows, self._joining = self._joining.rows, None
                    self._deliver([row.end("cancelled") for row in rows], rows)
                gone = [k for k, row in enumerate(self._written) if row.unwanted]
                rows = [self._written[k] for k in gone]
                self._deliver([row.end("cancelled") for row in rows], rows)
                self._keep([k for k in range(len(self._written)) if k not in gone])

    @property
    def _unwanted(self) -> bool:
        """Whether anything can be freed. Joining requests are read as a whole, and freed singly only once they run."""
        joining = self._joining.rows if self._joining else []
        return (any(row.unwanted for row in self._written) or any(job.closed for job in self._line.jobs)
                or (bool(joining) and all(row.unwanted for row in joining)))


def _fail(rows: Sequence[WrittenRow[Job]], error: Exception) -> None:
    """End the jobs of these rows with an error."""
    for job in {id(row.owner): row.owner for row in rows}.values():
        job.fail(error)


_making = threading.Lock()


def scheduler_of(backbone: Backbone) -> Scheduler:
    """The scheduler of a backbone, created at first use, so that all clients of a model share one batch."""
    with _making:
        if backbone.scheduler is None:
            backbone.scheduler = Scheduler(backbone)
        return cast("Scheduler", backbone.scheduler)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 4 << 30
