"""Progress on stderr: a tqdm bar on a terminal, otherwise one line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

from patchlab.cli.output import plain
from patchlab.records import Progress

T = TypeVar("T")
BAR_SECONDS = 0.1  # between two updates of a terminal's bar
LINE_SECONDS = 30.0  # between two lines where stderr is not a terminal


class ProgressLine:
    """Shows Progress records with the rate and remaining time of their stage.

    The rate counts from the first record of a stage, so that work done before a resume does not raise it.
    """

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream or sys.stderr, clock
        self.terminal = self.stream.isatty()
        self.stage: str | None = None
        self.first, self.began, self.updated = 0, 0.0, 0.0
        self.bar: tqdm | None = None  # of the current stage, on a terminal

    def show(self, progress: Progress) -> None:
        """Show a record, unless it is neither the first nor the last of its stage and the previous one was just shown."""
        now = self.clock()
        stage, message = (plain(text).replace("\n", " ") for text in (progress.stage, progress.message))
        if progress.stage != self.stage:
            self.close()
            self.stage, self.first, self.began = progress.stage, progress.done, now
            if self.terminal:
                self.bar = tqdm(desc=stage, total=progress.total, initial=progress.done, file=self.stream, smoothing=0,
                                dynamic_ncols=True)
        elif progress.done < progress.total and now - self.updated < (BAR_SECONDS if self.terminal else LINE_SECONDS):
            return
        self.updated = now
        if self.bar is not None:
            self.bar.n, self.bar.leave = progress.done, True
            self.bar.set_postfix_str(message)
        else:
            print(tqdm.format_meter(progress.done, progress.total, now - self.began, ncols=0, prefix=stage, postfix=message,
                                    initial=self.first), file=self.stream, flush=True)

    def clear(self) -> None:
        """Remove the bar so that results can be printed on the same terminal; the next record shows it again."""
        if self.bar is not None:
            self.bar.clear()
            self.bar.leave = False

    def close(self) -> None:
        """End the bar; it stays visible unless it was cleared."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def shown(items: Iterable[Progress | T], *, resume: str = "") -> Iterator[T]:
    """Show the Progress records among `items` on stderr and yield everything else.

    `resume` tells how to continue after Ctrl-C: it becomes part of the KeyboardInterrupt's message, which the shell prints.
    """
    line = ProgressLine()
    try:
        for item in items:
            if isinstance(item, Progress):
                line.show(item)
            else:
                line.clear()
                yield item
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"stopped; {resume}" if resume else str(stop)) from None
    finally:
        line.close()
