"""A report as Markdown tables, and the table cells that the HTML page uses too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from patchlab.evaluation.report.json import place
from patchlab.records import Agreement, Comparison, Measure, Report

FIGURES = ("suite", "metric", "lane", "value", "95 % interval", "n", "scorer")
COMPARED = ("suite", "metric", "lanes", "difference", "95 % interval", "p", "n", "scorer")
AGREED = ("suite", "scorers", "Cohen's kappa", "95 % interval", "equal verdicts", "replies")


def as_markdown(report: Report) -> str:
    """The measures as a Markdown table, then comparisons, agreement of scorers and notes if there are any."""
    parts = [_table(FIGURES, map(figure_cells, in_order(report)))]
    if report.comparisons:
        parts.append("Paired by prompt, second lane minus first; p from a sign-flip permutation test, not corrected for multiple "
                     "comparisons:\n\n" + _table(COMPARED, map(compared_cells, report.comparisons)))
    if report.agreements:
        parts.append("Two scorers on the same replies:\n\n" + _table(AGREED, map(agreed_cells, report.agreements)))
    if report.notes:
        parts.append("\n".join(f"- {_cell(note)}" for note in report.notes) + "\n")
    return "\n".join(parts)


def in_order(report: Report) -> list[Measure]:
    """All measures, each followed by that of its second scorer if there is one."""
    seconds = {place(m): m for m in report.seconds}
    return [m for first in report.measures for m in (first, seconds.get(place(first))) if m]


def figure_cells(m: Measure) -> tuple[str, ...]:
    """A measure as cells of a table with the columns FIGURES."""
    return m.suite, m.metric, m.lane, number(m.value), interval_text(m.low, m.high), str(m.n), m.scorer


def compared_cells(c: Comparison) -> tuple[str, ...]:
    """A comparison as cells of a table with the columns COMPARED."""
    return (c.suite, c.metric, f"{c.first} to {c.second}", number(c.difference, "+"), interval_text(c.low, c.high, "+"),
            number(c.p, "", 4), str(c.n), c.scorer)


def agreed_cells(a: Agreement) -> tuple[str, ...]:
    """The agreement of two scorers as cells of a table with the columns AGREED."""
    return a.suite, f"{a.first}, {a.second}", number(a.kappa), interval_text(a.low, a.high), number(a.alike), str(a.n)


def number(value: float, sign: str = "", places: int = 3) -> str:
    """A number as text, "none" for NaN and infinity."""
    return f"{value:{sign}.{places}f}" if math.isfinite(value) else "none"


def interval_text(low: float, high: float, sign: str = "") -> str:
    """An interval as text, empty if it is undefined."""
    return f"{number(low, sign)} to {number(high, sign)}" if math.isfinite(low) and math.isfinite(high) else ""


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in (head, ["---"] * len(head), *body))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
