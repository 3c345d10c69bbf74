"""The queue of a scheduler: jobs of clients with their requests, and the admission of requests to the running batch.

Jobs are served round-robin, one request each, within limits of forward rows and of bytes of keys and values.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from patchlab.engine.decode import Batch
from patchlab.engine.written_rows import Request
from patchlab.errors import BusyError
from patchlab.records import Delta

PIECE = 128  # prompt tokens read between two decode steps of other clients' rows, which bounds their delay
PATIENCE = 8  # steps that new requests wait, in a nearly full batch, for more rows to become free


class JobServer(Protocol):
    """What a job calls on its scheduler; `scheduler.Scheduler` implements it."""

    def _take(self, job: Job) -> tuple[Delta, ...]: ...

    def _cancel(self, job: Job, row: int) -> None: ...

    def _close(self, job: Job) -> None: ...


@dataclass(eq=False)
class Job:
    """The requests of one client, read from an iterator as they are admitted, and the deltas that it has not yet taken."""

    scheduler: JobServer
    requests: Iterator[Request]
    stop: Callable[[], bool] = lambda: False  # called before every step; True closes the job
    deltas: list[Delta] = field(default_factory=list)
    running: int = 0  # rows admitted and not finished
    cancelled: set[int] = field(default_factory=set)
    closed: bool = False
    error: Exception | None = None
    _next: Request | None = None

    def take(self) -> tuple[Delta, ...]:
        """The deltas since the last call, at least one; empty when all requests are finished. Raises an error of the model."""
        return self.scheduler._take(self)

    def cancel(self, row: int) -> None:
        """End the request of this row, queued or running, and free its memory; its last delta has the stop "cancelled"."""
        self.scheduler._cancel(self, row)

    def close(self) -> None:
        """End all requests without further deltas and free their memory."""
        self.scheduler._close(self)

    def fail(self, error: Exception) -> None:
        """End all requests; `take` then raises this error, with the text of its traceback as a note.

        The traceback itself is dropped: its frames would keep keys and values alive.
        """
        self.error, self.closed, self.requests = error, True, iter(())
        if error.__traceback__:
            error.add_note("".join(traceback.format_tb(error.__traceback__)))
        each: BaseException | None = error
        while each:
            each.__traceback__ = None
            each = each.__cause__ or each.__context__

    def peek(self) -> Request | None:
        """The next request, None if there is none; cancelled requests before it get their last delta."""
        while self._next is None and not self.closed:
            self._next = next(self.requests, None)
            if self._next is None:
                return None
            if self._next.row in self.cancelled:
                self.deltas.append(Delta(self._next.lane, self._next.row, "", 0, done=True, stop="cancelled"))
                self._next = None
        return self._next

    def pop(self) -> Request:
        """Remove and return the request that `peek` returned."""
        request, self._next = self._next, None
        assert request is not None
        return request


class WaitingLine:
    """A queue of at most `waiting` jobs, the next one to be served first.

    `rows` and `memory` bound the forward rows and the bytes of keys and values of all running requests; one token of one row
    takes `token_bytes`. While a batch changes its layout, the keys and values of one layer exist twice.
    """

    def __init__(self, *, rows: int, memory: int, waiting: int, token_bytes: int) -> None:
        self.rows, self.memory, self.waiting, self.token_bytes = rows, memory, waiting, token_bytes
        self.jobs: deque[Job] = deque()
        self._waited = 0

    def add(self, job: Job) -> None:
        """Append a job. Raises BusyError if the queue is full."""
        if len(self.jobs) >= self.waiting:
            raise BusyError(f"{len(self.jobs)} clients in line", expected=f"fewer than {self.waiting}",
                            do="try again later")
        self.jobs.append(job)

    def admitted(self, running: Batch | None) -> list[tuple[Job, Request]]:
        """Remove and return the requests that fit beside the running ones; a request that does not fit blocks those behind it."""
        admitted: list[tuple[Job, Request]] = []
        free = self.rows - (0 if running is None else len(running.forward_rows))
        if running is not None and free < self.rows // 8 and self._waited < PATIENCE and self.jobs:
            self._waited += 1  # every admission copies all rows to a new layout, so several requests are admitted together
            return admitted
        while self.jobs:
            job = self.jobs[0]
            try:
                request = job.peek()
            except Exception as error:  # raised by the client's iterator of requests
                job.fail(error)
                request = None
            if request is None:
                self.jobs.popleft()
                continue
            if len(request.plan.rows) > free or self.size([*(each for _, each in admitted), request], running) > self.memory:
                break
            admitted.append((job, job.pop()))
            job.running += 1
            free -= len(request.plan.rows)
            self.jobs.rotate(-1)
        self._waited = 0
        return admitted

    def size(self, requests: Sequence[Request], running: Batch | None = None) -> int:
        """The maximum bytes of keys and values of requests and running rows together, all padded to the longest."""
        rows = sum(len(request.plan.rows) for request in requests)
        slots = max(request.plan.slots for request in requests)
        text = max(len(request.ids) - request.turn for request in requests)
        histories = {request.history for request in requests if request.turn}
        room = max(request.sampling.max_new_tokens for request in requests)
        if running is not None:
            left = running.masks.length - running.at
            steps = min(left, (text - 1) // piece(rows))  # by which running rows grow while the prompts are read
            rows, slots = rows + len(running.forward_rows), max(slots, running.slots)
            text, room = max(text, running.at + steps), max(room, left)
            histories |= {history.key for history in running.past.each} if running.past else set()
        stacked = len(histories) * max((len(ids) for _, ids in histories), default=0)
        return (rows * (slots + text + room) + stacked) * self.token_bytes


def piece(rows: int) -> int:
    """The number of prompt columns of `rows` rows that are read between two decode steps of other rows."""
    return max(1, PIECE // rows)
