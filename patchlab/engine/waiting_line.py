"""Requests that wait for a scheduler: whose turn is next, and what there is room for.

Clients are served in turn, one request each, within a limit of forward rows and one of bytes of keys and values.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from patchlab.engine.decode import Batch
from patchlab.engine.written_rows import Request
from patchlab.errors import BusyError
from patchlab.records import Delta

if TYPE_CHECKING:
    from patchlab.engine.scheduler import Scheduler

PIECE = 128  # prompt tokens read between two steps of other clients' rows, so that these do not stall
PATIENCE = 8  # steps that newcomers wait for more rows to become free, in a batch that is nearly full


@dataclass(eq=False)
class Job:
    """The requests of one client. They are fetched as there is room for them, and their deltas wait here."""

    scheduler: Scheduler
    requests: Iterator[Request]
    stop: Callable[[], bool] = lambda: False  # asked before every step: whether to close
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

    def fail(self, error: Exception) -> None:
        """End all requests; the client is given this error, with the text of its traceback as a note.

        A traceback holds the frames of the whole stack, and they hold keys and values.
        """
        self.error, self.closed, self.requests = error, True, iter(())
        if error.__traceback__:
            error.add_note("".join(traceback.format_tb(error.__traceback__)))
        each: BaseException | None = error
        while each:
            each.__traceback__ = None
            each = each.__cause__ or each.__context__

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


class Line:
    """Jobs with requests in line, at most `waiting`, whose turn is next first.

    `rows` and `memory` bound the forward rows and the bytes of keys and values of all that run; one token of one row takes
    `token_bytes`. While rows are laid anew, one layer's keys and values are held twice.
    """

    def __init__(self, *, rows: int, memory: int, waiting: int, token_bytes: int) -> None:
        self.rows, self.memory, self.waiting, self.token_bytes = rows, memory, waiting, token_bytes
        self.jobs: deque[Job] = deque()
        self._waited = 0

    def add(self, job: Job) -> None:
        """Put a job at the end. Raises BusyError where the line is full."""
        if len(self.jobs) >= self.waiting:
            raise BusyError(f"{len(self.jobs)} clients in line", expected=f"fewer than {self.waiting}",
                            do="ask again when some are done")
        self.jobs.append(job)

    def admitted(self, running: Batch | None) -> list[tuple[Job, Request]]:
        """Requests for which there is room beside those that run; nobody overtakes one that does not fit yet."""
        found: list[tuple[Job, Request]] = []
        free = self.rows - (0 if running is None else len(running.forward_rows))
        if running is not None and free < self.rows // 8 and self._waited < PATIENCE and self.jobs:
            self._waited += 1  # each joining lays all rows anew: better some newcomers together
            return found
        while self.jobs:
            job = self.jobs[0]
            try:
                request = job.peek()
            except Exception as error:  # whoever made the requests failed at the next one
                job.fail(error)
                request = None
            if request is None:
                self.jobs.popleft()
                continue
            if len(request.plan.rows) > free or self.size([*(each for _, each in found), request], running) > self.memory:
                break
            found.append((job, job.pop()))
            job.running += 1
            free -= len(request.plan.rows)
            self.jobs.rotate(-1)
        self._waited = 0
        return found

    def size(self, requests: Sequence[Request], running: Batch | None = None) -> int:
        """The most bytes of keys and values that requests take, together with rows that run: the longest counts for all."""
        rows = sum(len(request.plan.rows) for request in requests)
        slots = max(request.plan.slots for request in requests)
        text = max(len(request.ids) for request in requests)
        room = max(request.sampling.max_new_tokens for request in requests)
        if running is not None:
            left = running.masks.length - running.at
            steps = min(left, (text - 1) // piece(rows))  # by which the rows that run grow while the prompts are read
            rows, slots = rows + len(running.forward_rows), max(slots, running.masks.bias.shape[1])
            text, room = max(text, running.at + steps), max(room, left)
        return rows * (slots + text + room) * self.token_bytes


def piece(rows: int) -> int:
    """How many columns of so many rows' prompts are read between two steps of other rows."""
    return max(1, PIECE // rows)
