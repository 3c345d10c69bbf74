"""Progress on stderr: tqdm's bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

from patchlab.cli.output import plain
from patchlab.records import Progress

T = TypeVar("T")
RENEWED = 0.1  # seconds between two renewals of a terminal's bar
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
        self.bar: tqdm | None = None  # of the stage, on a terminal

    def show(self, progress: Progress) -> None:
        """Show where work is, unless the last look is recent."""
        now = self.clock()
        stage, message = (plain(text).replace("\n", " ") for text in (progress.stage, progress.message))
        if progress.stage != self.stage:
            self.close()
            self.stage, self.first, self.began = progress.stage, progress.done, now
            if self.terminal:
                self.bar = tqdm(desc=stage, total=progress.total, initial=progress.done, file=self.stream, smoothing=0,
                                dynamic_ncols=True)
        elif progress.done < progress.total and now - self.said < (RENEWED if self.terminal else SAID):
            return
        self.said = now
        if self.bar is not None:
            self.bar.n, self.bar.leave = progress.done, True
            self.bar.set_postfix_str(message)
        else:
            print(tqdm.format_meter(progress.done, progress.total, now - self.began, ncols=0, prefix=stage, postfix=message,
                                    initial=self.first), file=self.stream, flush=True)

    def clear(self) -> None:
        """Take the bar away, so that results can be printed on the same terminal; the next record brings it back."""
        if self.bar is not None:
            self.bar.clear()
            self.bar.leave = False

    def close(self) -> None:
        """End the bar and leave it to be read, unless it was cleared."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


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
