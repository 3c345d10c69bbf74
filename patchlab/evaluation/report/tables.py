"""A report as rows, as JSON and as Markdown tables; its keys are explained in docs/report-format.md."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from patchlab.records import Comparison, Measure, Report

SCHEMA = 1


def rows(report: Report) -> list[dict[str, Any]]:
    """One row a suite, lane and metric: its figure, and where there are such, a second scorer's and the lane before.

    A number that is not finite is None.
    """
    seconds = {_place(m): m for m in report.seconds}
    versus = {(c.suite, c.second, c.metric, c.scorer): c for c in report.comparisons}
    # perplexity is an exponential: what is compared is its logarithm
    versus |= {(suite, lane, "perplexity", scorer): c for (suite, lane, metric, scorer), c in versus.items()
               if metric == "log_loss"}
    found = []
    for m in report.measures:
        row = _row(m, report.scorers)
        if second := seconds.get(_place(m)):
            row["second"] = {key: value for key, value in _row(second, report.scorers).items()
                             if key not in ("suite", "lane", "metric")}
        if compared := versus.get((*_place(m), m.scorer)):
            row["versus"] = _plain({"lane": compared.first, "metric": compared.metric, "difference": compared.difference,
                                    "low": compared.low, "high": compared.high, "p": compared.p, "n": compared.n})
        found.append(row)
    return found


def as_json(report: Report) -> dict[str, Any]:
    """The whole report but its replies."""
    return {
        "schema": SCHEMA, "made_with": dict(report.made_with), "measures": rows(report),
        "details": [_row(m, report.scorers) for m in report.details],
        "comparisons": [_plain(dataclasses.asdict(c)) for c in report.comparisons],
        "agreements": [_plain(dataclasses.asdict(a)) for a in report.agreements],
        "scorers": dict(report.scorers), "notes": list(report.notes)}


def as_markdown(report: Report) -> str:
    """The report's measures as a Markdown table, then comparisons, agreement of scorers and notes where there are any."""
    parts = [_table(("suite", "metric", "lane", "value", "95 % interval", "n", "scorer"), [
        (m.suite, m.metric, m.lane, number(m.value), interval_words(m.low, m.high), str(m.n), m.scorer)
        for m in in_order(report)])]
    if report.comparisons:
        parts.append("Paired on the same prompts, second lane minus first; p from sign flips, not corrected for their "
                     "number:\n\n" + _table(
                         ("suite", "metric", "lanes", "difference", "95 % interval", "p", "n", "scorer"),
                         [compared_cells(c) for c in report.comparisons]))
    if report.agreements:
        parts.append("Two scorers on the same replies:\n\n" + _table(
            ("suite", "scorers", "Cohen's kappa", "95 % interval", "judged alike", "replies"),
            [(a.suite, f"{a.first}, {a.second}", number(a.kappa), interval_words(a.low, a.high), f"{a.alike:.3f}", str(a.n))
             for a in report.agreements]))
    if report.notes:
        parts.append("\n".join(f"- {_cell(note)}" for note in report.notes) + "\n")
    return "\n".join(parts)


def in_order(report: Report) -> list[Measure]:
    """All figures, a second scorer's right behind the first's."""
    seconds = {_place(m): m for m in report.seconds}
    return [m for first in report.measures for m in (first, seconds.get(_place(first))) if m]


def _place(m: Measure) -> tuple[str, str, str]:
    return m.suite, m.lane, m.metric


def _row(m: Measure, digests: Mapping[str, str]) -> dict[str, Any]:
    return _plain({**dataclasses.asdict(m), "digest": digests.get(m.scorer, "")})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row with None for every number that JSON does not have."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def compared_cells(c: Comparison) -> tuple[str, ...]:
    """A comparison as cells of a table: suite, metric, lanes, difference, interval, p, n, scorer."""
    return (c.suite, c.metric, f"{c.first} to {c.second}", number(c.difference, "+"), interval_words(c.low, c.high, "+"),
            number(c.p, "", 4), str(c.n), c.scorer)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def number(value: float, sign: str = "", places: int = 3) -> str:
    """A number for people; "none" where there is none."""
    return f"{value:{sign}.{places}f}" if math.isfinite(value) else "none"


def interval_words(low: float, high: float, sign: str = "") -> str:
    """An interval for people; nothing where there is none."""
    return f"{number(low, sign)} to {number(high, sign)}" if math.isfinite(low) and math.isfinite(high) else ""
