"""Progress on stderr: one line that renews itself on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from patchlab.cli.output import plain
from patchlab.records import Progress

T = TypeVar("T")
RENEWED = 0.1  # seconds between two renewals of a terminal's line
SAID = 30.0  # seconds between two lines elsewhere


class ProgressLine:
    """Shows Progress records with the rate and time left of their stage.

    The rate counts from the first record seen, so that work done before a resume does not make it look faster.
    """

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream or sys.stderr, clock
        self.terminal = self.stream.isatty()
        self.stage: str | None = None
        self.first, self.began, self.said = 0, 0.0, 0.0
        self.open = False  # whether the cursor stands in a line that is not ended

    def show(self, progress: Progress) -> None:
        """Show where work is, unless the last look is recent."""
        now = self.clock()
        fresh = progress.stage != self.stage
        if fresh:
            self.close()
            self.stage, self.first, self.began = progress.stage, progress.done, now
        elif progress.done < progress.total and now - self.said < (RENEWED if self.terminal else SAID):
            return
        self.said = now
        line = plain(self._words(progress, now)).replace("\n", " ")
        if self.terminal:
            line = line[:max(20, shutil.get_terminal_size().columns - 1)]
            self.stream.write(f"\r{line}\x1b[K")
            self.open = True
        else:
            self.stream.write(f"{line}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Take the open line away, so that results can be printed on the same terminal."""
        if self.open:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.open = False

    def close(self) -> None:
        """End the open line and leave it to be read."""
        if self.open:
            self.stream.write("\n")
            self.stream.flush()
            self.open = False

    def _words(self, progress: Progress, now: float) -> str:
        parts = [f"{progress.stage} {progress.done:,}/{progress.total:,}"]
        if progress.message:
            parts.append(progress.message)
        done, passed = progress.done - self.first, now - self.began
        if done > 0 and passed > 0:
            rate = done / passed
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
            if progress.done < progress.total:
                parts.append(f"{_clock_time((progress.total - progress.done) / rate)} left")
        return ", ".join(parts)


def shown(items: Iterable[Progress | T]) -> Iterator[T]:
    """Show the Progress records among `items` on stderr and yield everything else."""
    line = ProgressLine()
    try:
        for item in items:
            if isinstance(item, Progress):
                line.show(item)
            else:
                line.clear()
                yield item
    finally:
        line.close()


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
