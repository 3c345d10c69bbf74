"""One continuous batch a backbone: requests of any number of clients, each with its own stack, seed, length and stop strings.

    scheduler = Scheduler(backbone)
    job = scheduler.open([scheduler.request("patched", 0, Prompt("hello"), plan)])
    while deltas := job.take():
        ...

There is no thread of its own: a client that needs its next delta takes a step for all, while others that wait find theirs
when the step is over. A row is what it would be alone: nothing of its neighbours, of when it joined or of where it stands reaches
its tokens. Clients are admitted in turn, within a limit of forward rows and of bytes of keys and values.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from patchlab.engine.decode import Batch, Row
from patchlab.engine.plan import BARE, StackPlan
from patchlab.engine.sampler import RowKey, Sampling
from patchlab.engine.segments import compile_prefix
from patchlab.engine.written_rows import Request, WrittenRow, draw
from patchlab.errors import BusyError, ContextError, InputError, ModelError, StackError
from patchlab.models import Backbone
from patchlab.records import Delta, Prompt

PIECE = 128  # prompt tokens read between two steps of other clients' rows, so that these do not stall
WHOLE = 8192  # the same where nobody else waits
PATIENCE = 8  # steps that newcomers wait for more rows to become free, in a batch that is nearly full


@dataclass(eq=False)
class Job:
    """The requests of one client. They are fetched as there is room for them, and their deltas wait here."""

    scheduler: Scheduler
    requests: Iterator[Request]
    deltas: list[Delta] = field(default_factory=list)
    running: int = 0  # rows admitted and not done
    cancelled: set[int] = field(default_factory=set)
    closed: bool = False
    error: Exception | None = None
    _next: Request | None = None

    def take(self) -> tuple[Delta, ...]:
        """The deltas since the last call, at least one; empty when all requests are done. Raises what made the model fail."""
        return self.scheduler._take(self)

    def cancel(self, row: int) -> None:
        """End the request of this row, in line or running, and free what it holds; its last delta says so."""
        self.scheduler._cancel(self, row)

    def close(self) -> None:
        """Forget all requests and free what they hold."""
        self.scheduler._close(self)

    def peek(self) -> Request | None:
        """The next request in line, None where there is none; cancelled ones are answered on the way."""
        while self._next is None and not self.closed:
            self._next = next(self.requests, None)
            if self._next is None:
                return None
            if self._next.row in self.cancelled:
                self.deltas.append(Delta(self._next.lane, self._next.row, "", 0, done=True, stop="cancelled"))
                self._next = None
        return self._next

    def pop(self) -> Request:
        """The request that `peek` showed, which is no longer in line."""
        request, self._next = self._next, None
        assert request is not None
        return request


class Scheduler:
    """At most `rows` forward rows in flight, `memory` bytes of keys and values, and `waiting` jobs in line.

    A blended request takes a row of the base and one a patch. By default memory is a quarter of what is free on the device, at
    most 4 GiB on a CPU.
    """

    def __init__(self, backbone: Backbone, *, rows: int = 96, memory: int | None = None, waiting: int = 256) -> None:
        for name, value in (("rows", rows), ("waiting", waiting), ("bytes of memory", 1 if memory is None else memory)):
            if value < 1:
                raise InputError(f"{value} {name}", expected="1 or more", do=f"raise {name}")
        self.backbone, self.rows, self.waiting = backbone, rows, waiting
        self.memory = memory or _free_memory(backbone.device)
        self._batch: Batch | None = None
        self._written: list[WrittenRow[Job]] = []  # the rows of the batch
        self._joining: tuple[Batch, list[WrittenRow[Job]]] | None = None  # newcomers whose prompts are being read
        self._jobs: deque[Job] = deque()  # with requests in line, whose turn is next first
        self._lock, self._stepping, self._waited = threading.RLock(), False, 0
        with torch.no_grad():  # what one token of one row takes, in whatever layout the model has
            self._token_bytes = compile_prefix(backbone, backbone.embeddings[:1].detach().float()).size

    def request(self, lane: str, row: int, prompt: Prompt, plan: StackPlan = BARE, *, sampling: Sampling | None = None,
                sample: int = 0, ids: Sequence[int] | None = None) -> Request:
        """A request for one reply, checked. Its noise is that of the prompt's `sample` under the sampling's seed.

        Raises InputError or ContextError for a prompt that cannot be read, StackError for a plan of too many rows.
        """
        sampling = sampling or Sampling()
        ids = self.backbone.encode(prompt) if ids is None else ids
        needed = plan.start + len(ids) + sampling.max_new_tokens
        if needed > self.backbone.context:
            raise ContextError(
                f"{needed:,} tokens needed by lane {lane!r} ({len(ids):,} for the prompt's {len(prompt.text):,} characters, "
                f"{sampling.max_new_tokens:,} for the reply, {plan.start} for the patch)",
                expected=f"at most {self.backbone.context:,} available", do="shorten the prompt or ask for a shorter reply")
        if len(plan.rows) > self.rows:
            raise StackError(f"a blend that takes {len(plan.rows)} rows", expected=f"at most {self.rows}",
                             do="blend fewer patches, or use parallel mode, which takes one row")
        request = Request(lane, row, tuple(ids), plan, RowKey.of(prompt, sample=sample, seed=sampling.seed), sampling)
        if (size := self._size([request])) > self.memory:
            raise ContextError(f"{size:,} bytes of keys and values needed by lane {lane!r}",
                               expected=f"at most {self.memory:,}", do="shorten the prompt or the reply, or blend fewer patches")
        return request

    def open(self, requests: Iterable[Request]) -> Job:
        """Put requests in line; the job gives out their deltas. Raises BusyError where the line is full."""
        with self._lock:
            if len(self._jobs) >= self.waiting:
                raise BusyError(f"{len(self._jobs)} clients in line", expected=f"fewer than {self.waiting}",
                                do="ask again when some are done")
            job = Job(self, iter(requests))
            self._jobs.append(job)
        return job

    @property
    def in_flight(self) -> int:
        """The forward rows that requests take at this moment."""
        return sum(len(batch.forward_rows) for batch in (self._batch, self._joining and self._joining[0]) if batch)

    def _take(self, job: Job) -> tuple[Delta, ...]:
        while True:
            with self._lock:
                if job.deltas:
                    found, job.deltas = tuple(job.deltas), []
                    return found
                if job.error:
                    raise job.error
                if job.closed or (not job.running and job not in self._jobs):
                    return ()
                self._step()

    def _step(self) -> None:
        """One token for every row that runs, and a piece of the prompts of those that join."""
        self._stepping = True
        try:
            self._advance()
            self._join()
        except BaseException as error:  # not of the model: the thread was interrupted in the middle of a step
            stopped = ModelError(f"a batch that was stopped ({type(error).__name__})", expected="to go on", do="ask again")
            self._fail([*self._written, *(self._joining[1] if self._joining else [])], stopped)
            self._batch, self._written, self._joining = None, [], None
            raise
        finally:
            self._stepping = False
        self._sweep()

    def _advance(self) -> None:
        if self._batch is None:
            return
        try:
            logits = self._batch.step([row.token for row in self._written])
        except Exception as error:
            self._fail(self._written, error)
            self._batch, self._written = None, []
            return
        self._keep(self._deliver(draw(logits, self._written), self._written))

    def _join(self) -> None:
        """Admit newcomers, read a piece of their prompts, and let them run with the others once they are read."""
        if self._joining is None:
            admitted = self._admitted()
            if not admitted:
                return
            rows = [WrittenRow(self.backbone, request, job) for job, request in admitted]
            batch = Batch(self.backbone, [Row(request.ids, request.plan) for _, request in admitted],
                          room=max(request.sampling.max_new_tokens for _, request in admitted))
            self._joining = batch, rows
        batch, rows = self._joining
        others = self._batch is not None and len({id(row.owner) for row in (*self._written, *rows)}) > 1
        try:
            logits = batch.read(max(1, (PIECE if others else WHOLE) // len(batch.forward_rows)))
        except Exception as error:  # only these prompts are at fault
            self._joining = None
            self._fail(rows, error)
            return
        if batch.unread:
            return
        self._joining = None
        going = self._deliver(draw(logits, rows), rows)
        if going and len(going) < len(rows):
            batch.keep(going)
        if going and self._batch is not None:
            self._batch.join(batch)
        elif going:
            self._batch = batch
        self._written += [rows[k] for k in going]

    def _admitted(self) -> list[tuple[Job, Request]]:
        """Requests for which there is room, of each client one in turn; nobody overtakes one that does not fit yet."""
        found: list[tuple[Job, Request]] = []
        free = self.rows - self.in_flight
        if self._batch is not None and free < self.rows // 8 and self._waited < PATIENCE and self._jobs:
            self._waited += 1  # each joining lays all rows anew: better some newcomers together
            return found
        while self._jobs:
            job = self._jobs[0]
            try:
                request = job.peek()
            except Exception as error:  # whoever made the requests failed at the next one
                request, job.error = None, error
            if request is None:
                self._jobs.popleft()
                continue
            if len(request.plan.rows) > free or self._size([*(each for _, each in found), request], self._batch) > self.memory:
                break
            found.append((job, job.pop()))
            job.running += 1
            free -= len(request.plan.rows)
            self._jobs.rotate(-1)
        self._waited = 0
        return found

    def _size(self, requests: Sequence[Request], batch: Batch | None = None) -> int:
        """Bytes of the block of keys and values that requests take together with a batch: its longest row counts for all."""
        rows = sum(len(request.plan.rows) for request in requests)
        slots = max(request.plan.slots for request in requests)
        columns = max(len(request.ids) + request.sampling.max_new_tokens for request in requests)
        if batch is not None:
            rows += len(batch.forward_rows)
            slots, columns = max(slots, batch.masks.bias.shape[1]), max(columns, batch.masks.length)
        return rows * (slots + columns) * self._token_bytes

    def _deliver(self, deltas: Sequence[Delta], rows: Sequence[WrittenRow[Job]]) -> list[int]:
        """Put each row's delta where its client finds it; returns the places of rows that go on."""
        going = []
        for k, (row, delta) in enumerate(zip(rows, deltas, strict=True)):
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
        self._sweep_now()

    def _close(self, job: Job) -> None:
        job.closed, job.requests = True, iter(())
        self._sweep_now()

    def _sweep_now(self) -> None:
        """Free what is no longer wanted; in the middle of a step of this very thread its end does."""
        with self._lock:
            if not self._stepping:
                self._sweep()

    def _sweep(self) -> None:
        """Take closed jobs and cancelled rows out; newcomers that are being read are taken out once they run."""
        if any(job.closed for job in self._jobs):
            self._jobs = deque(job for job in self._jobs if not job.closed)
        if self._joining and all(row.unwanted for row in self._joining[1]):
            self._deliver([row.end("cancelled") for row in self._joining[1]], self._joining[1])
            self._joining = None
        if not any(row.unwanted for row in self._written):
            return
        gone = [row for row in self._written if row.unwanted]
        self._deliver([row.end("cancelled") for row in gone], gone)
        self._keep([k for k, row in enumerate(self._written) if not row.unwanted])

    def _fail(self, rows: Sequence[WrittenRow[Job]], error: Exception) -> None:
        """Tell the clients of these rows why there is nothing more for them."""
        for job in {id(row.owner): row.owner for row in rows}.values():
            job.error, job.running = error, 0
            job.closed, job.requests = True, iter(())


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 4 << 30
