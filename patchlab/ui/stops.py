"""Who asked to stop: one signal a visitor, set by the Stop button and read by that visitor's run.

The run ends itself at its next step, so that one event alone writes the columns, the verdicts and the list. A run that
still waits in the queue ends before it begins. Visitors are told apart by gradio's session name.
"""

from __future__ import annotations

from threading import Event, Lock


class Stops:
    """The stop signals of all visitors who wait or run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._signals: dict[str, Event] = {}
        self._running: set[str] = set()

    def wait(self, visitor: str) -> None:
        """A visitor joins the queue: whatever was signalled before no longer counts."""
        with self._lock:
            if visitor not in self._running:
                self._signals[visitor] = Event()

    def begin(self, visitor: str) -> Event:
        """A visitor's run begins; it should end as soon as the signal it gets is set."""
        with self._lock:
            self._running.add(visitor)
            return self._signals.setdefault(visitor, Event())

    def end(self, visitor: str) -> None:
        """A visitor's run is over, or will never begin."""
        with self._lock:
            self._running.discard(visitor)
            self._signals.pop(visitor, None)

    def stop(self, visitor: str) -> bool:
        """Signal a visitor's run to end; False where that visitor has none."""
        with self._lock:
            signal = self._signals.get(visitor)
        if signal is None:
            return False
        signal.set()
        return True
