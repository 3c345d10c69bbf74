"""The progress line, with a clock and a terminal made for the test."""

from __future__ import annotations

import io

import pytest

from patchlab.cli.progress import ProgressLine, shown
from patchlab.records import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def told(stream: io.StringIO, records: list[Progress], *, seconds: float) -> str:
    """What a line writes when records come `seconds` apart."""
    now = 0.0
    line = ProgressLine(stream=stream, clock=lambda: now)
    for record in records:
        line.show(record)
        now += seconds
    line.close()
    return stream.getvalue()


def test_elsewhere_than_on_a_terminal_lines_are_few() -> None:
    records = [Progress("sft", step, 100) for step in range(1, 101)]
    lines = told(io.StringIO(), records, seconds=2.0).splitlines()
    assert lines[0] == "sft 1/100"
    assert [line.split(",")[0] for line in lines] == [f"sft {step}/100" for step in (1, 16, 31, 46, 61, 76, 91, 100)]
    assert lines[1] == "sft 16/100, 2 s each, 2:48 left"
    assert lines[-1] == "sft 100/100, 2 s each"


def test_a_resumed_stage_does_not_count_what_was_done_before() -> None:
    lines = told(io.StringIO(), [Progress("sft", 5000, 9000), Progress("sft", 5400, 9000)], seconds=40).splitlines()
    assert lines == ["sft 5,000/9,000", "sft 5,400/9,000, 10/s, 6:00 left"]


def test_on_a_terminal_one_line_renews_itself_a_stage() -> None:
    written = told(Terminal(), [Progress("a", 1, 2, "x" * 500), Progress("a", 2, 2), Progress("b", 1, 1)], seconds=1)
    assert written.count("\n") == 2 and written.endswith("\n")
    assert written.count("\r") == 3
    assert max(map(len, written.split("\r"))) < 500


def test_results_pass_through_and_progress_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown([Progress("a", 1, 1), "result", Progress("b", 1, 1)])) == ["result"]
    assert capsys.readouterr().err.splitlines() == ["a 1/1", "b 1/1"]
