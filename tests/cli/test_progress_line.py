"""The progress line, with a clock made for the test and a real pseudo-terminal."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable

import pytest

from patchlab.cli.progress import ProgressLine, shown
from patchlab.records import Progress

fcntl, termios, pty = (pytest.importorskip(name) for name in ("fcntl", "termios", "pty"))


def told(records: list[Progress], *, seconds: float) -> list[str]:
    """The lines written elsewhere than on a terminal when records come `seconds` apart."""
    now = 0.0
    stream = io.StringIO()
    line = ProgressLine(stream=stream, clock=lambda: now)
    for record in records:
        line.show(record)
        now += seconds
    line.close()
    return stream.getvalue().splitlines()


def on_terminal(work: Callable[[ProgressLine], None], *, columns: int = 80) -> str:
    """What a terminal receives."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        now = iter(range(10**6))
        line = ProgressLine(stream=stream, clock=lambda: float(next(now)))
        work(line)
        line.close()
    written = b""
    try:
        while part := os.read(master, 10**6):
            written += part
    except OSError:  # how a terminal says that its other side is closed and all was read
        pass
    os.close(master)
    return written.decode()


def seen(written: str) -> list[str]:
    """The lines that remain to be read: of what a carriage return goes back over, the last."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        shown_line = ""
        for part in line.split("\r"):
            shown_line = part + shown_line[len(part):]
        lines.append(shown_line.rstrip())
    return lines


def test_elsewhere_than_on_a_terminal_lines_are_few() -> None:
    lines = told([Progress("sft", step, 100) for step in range(1, 101)], seconds=2.0)
    assert [re.search(r"(\d+)/100", line)[1] for line in lines] == ["1", "16", "31", "46", "61", "76", "91", "100"]
    assert lines[0].startswith("sft:")
    assert lines[1] == "sft:  16% 16/100 [00:30<02:48,  2.00s/it]"


def test_a_resumed_stage_does_not_count_what_was_done_before() -> None:
    _, line = told([Progress("sft", 5000, 9000), Progress("sft", 5400, 9000)], seconds=40)
    assert line == "sft:  60% 5400/9000 [00:40<06:00, 10.00it/s]"


def test_on_a_terminal_one_bar_renews_itself_a_stage() -> None:
    records = [Progress("a", 1, 2, "x" * 500), Progress("a", 2, 2, "done"), Progress("b", 1, 1)]
    written = on_terminal(lambda line: [line.show(record) for record in records] and None)
    first, second, rest = seen(written)
    assert first.startswith("a: 100%") and "done" in first and second.startswith("b: 100%") and rest == ""
    assert max(map(len, re.split("[\r\n]", written))) <= 80


def test_nothing_is_left_on_the_terminal_when_results_are_printed() -> None:
    def work(line: ProgressLine) -> None:
        line.show(Progress("draw", 1, 9, "first"))
        line.clear()
        line.stream.write("result\n")

    assert seen(on_terminal(work)) == ["result", ""]

    def longer(line: ProgressLine) -> None:
        work(line)
        line.show(Progress("draw", 9, 9))

    assert [text[:11] for text in seen(on_terminal(longer))] == ["result", "draw: 100%|", ""]


def test_what_could_act_on_a_terminal_is_made_harmless() -> None:
    hostile = Progress("a\x1b[2J", 1, 1, "b\x1b]0;title\x07\nc\r{desc}")
    [line] = told([hostile], seconds=1)
    assert not re.search("[\x00-\x1f]", line) and "{desc}" in line
    written = on_terminal(lambda line: line.show(hostile))
    assert "\x1b[2J" not in written and "\x1b]0" not in written and "\x07" not in written


def test_results_pass_through_and_progress_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown([Progress("a", 1, 1), "result", Progress("b", 1, 1)])) == ["result"]
    assert [line[:2] for line in capsys.readouterr().err.splitlines()] == ["a:", "b:"]
