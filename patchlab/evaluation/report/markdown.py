"""A report as Markdown tables, and the cells that the page shows too."""

from __future__ import annotations

import math
from collections.abc import Sequence

from patchlab.evaluation.report.json import place
from patchlab.records import Agreement, Comparison, Measure, Report

FIGURES = ("suite", "metric", "lane", "value", "95 % interval", "n", "scorer")
COMPARED = ("suite", "metric", "lanes", "difference", "95 % interval", "p", "n", "scorer")
AGREED = ("suite", "scorers", "Cohen's kappa", "95 % interval", "judged alike", "replies")


def as_markdown(report: Report) -> str:
    """The report's measures as a Markdown table, then comparisons, agreement of scorers and notes where there are any."""
    parts = [_table(FIGURES, [figure_cells(m) for m in in_order(report)])]
    if report.comparisons:
        parts.append("Paired on the same prompts, second lane minus first; p from sign flips, not corrected for their "
                     "number:\n\n" + _table(COMPARED, [compared_cells(c) for c in report.comparisons]))
    if report.agreements:
        parts.append("Two scorers on the same replies:\n\n" + _table(AGREED, [agreed_cells(a) for a in report.agreements]))
    if report.notes:
        parts.append("\n".join(f"- {_cell(note)}" for note in report.notes) + "\n")
    return "\n".join(parts)


def in_order(report: Report) -> list[Measure]:
    """All figures, a second scorer's right behind the first's."""
    seconds = {place(m): m for m in report.seconds}
    return [m for first in report.measures for m in (first, seconds.get(place(first))) if m]


def figure_cells(m: Measure) -> tuple[str, ...]:
    """A figure as cells of a table; see FIGURES."""
    return m.suite, m.metric, m.lane, number(m.value), interval_words(m.low, m.high), str(m.n), m.scorer


def compared_cells(c: Comparison) -> tuple[str, ...]:
    """A comparison as cells of a table; see COMPARED."""
    return (c.suite, c.metric, f"{c.first} to {c.second}", number(c.difference, "+"), interval_words(c.low, c.high, "+"),
            number(c.p, "", 4), str(c.n), c.scorer)


def agreed_cells(a: Agreement) -> tuple[str, ...]:
    """The agreement of two scorers as cells of a table; see AGREED."""
    return a.suite, f"{a.first}, {a.second}", number(a.kappa), interval_words(a.low, a.high), number(a.alike), str(a.n)


def number(value: float, sign: str = "", places: int = 3) -> str:
    """A number for people; "none" where there is none."""
    return f"{value:{sign}.{places}f}" if math.isfinite(value) else "none"


def interval_words(low: float, high: float, sign: str = "") -> str:
    """An interval for people; nothing where there is none."""
    return f"{number(low, sign)} to {number(high, sign)}" if math.isfinite(low) and math.isfinite(high) else ""


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
