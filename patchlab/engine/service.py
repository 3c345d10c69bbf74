"""A continuous batch: requests of any number of clients on one backbone, each with its own stack, seed, length and stop.

    service = Service(trio.base, rows=16)
    ticket = service.submit(Prompt("hello"), parts=trio.parts(stack))
    while service:
        for delta in service.step():  # delta.row is the ticket
            ...

It runs when it is asked to and in the caller's thread; who shares it between threads holds a lock of their own. A row is what
it would be alone: nothing of its neighbours, of when it joined or of where it stands reaches its tokens.
"""

from __future__ import annotations

import itertools
from collections import deque

from patchlab.engine.forward_rows import voices
from patchlab.engine.gates import Wanted, whole
from patchlab.engine.sampler import RowKey, Sampling
from patchlab.engine.scheduler import Request, Running, check_context
from patchlab.errors import BusyError, InputError, StackError
from patchlab.models.backbone import Backbone
from patchlab.records import Delta, Prompt


class Service:
    """At most `rows` forward rows at a time and `waiting` requests in line; memory is bounded by both.

    A blended request takes a row for each of its patches and one more; one with gates waits for as many as it may take.
    """

    def __init__(self, backbone: Backbone, *, rows: int = 16, waiting: int = 256) -> None:
        for name, value in (("rows", rows), ("waiting", waiting)):
            if value < 1:
                raise InputError(f"{value} {name}", expected="1 or more", do=f"raise {name}")
        self.backbone, self.rows, self.waiting = backbone, rows, waiting
        self._running = Running(backbone)
        self._queue: deque[Request] = deque()
        self._cancelled: list[Delta] = []
        self._tickets = itertools.count()

    def __len__(self) -> int:
        """Tickets whose last delta has not been given out."""
        return len(self._running) + len(self._queue) + len(self._cancelled)

    def submit(self, prompt: Prompt, *, parts: Wanted = (), sampling: Sampling | None = None, key: RowKey | None = None,
               lane: str = "patched") -> int:
        """Put a request in line; returns its ticket, the `row` of its deltas. `lane` is the name they carry.

        `key` is the identity of its noise; by default that of the prompt's first sample with the sampling's seed.
        Raises BusyError where the line is full, StackError for a stack of more rows than there are, InputError or
        ContextError for a prompt that cannot be read.
        """
        sampling = sampling or Sampling()
        if len(self._queue) >= self.waiting:
            raise BusyError(f"{len(self._queue)} requests in line", expected=f"fewer than {self.waiting}",
                            do="ask again when some are done")
        if _rows(parts) > self.rows:
            raise StackError(f"a blend that takes {_rows(parts)} rows", expected=f"at most {self.rows}",
                             do="blend fewer patches, or use parallel mode, which takes one row")
        ids = self.backbone.encode(prompt)
        check_context(self.backbone, lane, parts, prompt, ids, sampling.max_new_tokens)
        ticket = next(self._tickets)
        key = key or RowKey.of(prompt, sample=0, seed=sampling.seed)
        self._queue.append(Request(lane, ticket, ids, parts, key, sampling))
        return ticket

    def cancel(self, ticket: int) -> None:
        """Let a request go, in line or running, and free what it holds; the next step says so. One that is done is left."""
        delta = self._running.cancel(ticket)
        if delta is None:
            waits = next((each for each in self._queue if each.row == ticket), None)
            if waits is None:
                return
            self._queue.remove(waits)
            delta = Delta(waits.lane, ticket, "", 0, done=True, stop="cancelled")
        self._cancelled.append(delta)

    def step(self) -> tuple[Delta, ...]:
        """One token for every row that runs and the first of those that join, by ticket; empty where nothing is to do.

        Every ticket's last delta is `done`. An exception of the model ends all rows and frees them.
        """
        deltas, self._cancelled = self._cancelled, []
        try:
            deltas += self._running.advance()
            deltas += self._running.join(self._admitted())
        except BaseException:
            self.close()
            raise
        return tuple(sorted(deltas, key=lambda delta: delta.row))

    def close(self) -> None:
        """Forget all requests and free what they hold."""
        self._running.close()
        self._queue.clear()
        self._cancelled.clear()

    def _admitted(self) -> list[Request]:
        """The next in line as far as there are rows; nobody overtakes one that needs more rows than are free."""
        free, found = self.rows - self._running.voices, []
        while self._queue and _rows(self._queue[0].asked) <= free:
            free -= _rows(self._queue[0].asked)
            found.append(self._queue.popleft())
        return found


def _rows(asked: Wanted) -> int:
    """The most forward rows that a request may take."""
    return len(voices(whole(asked)))
