"""A report as rows and as JSON; its keys are explained in docs/report-format.md."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from patchlab.records import Measure, Report

SCHEMA = 1


def rows(report: Report) -> list[dict[str, Any]]:
    """One row a suite, lane and metric: its figure, and where there are such, a second scorer's and the lane before.

    A number that is not finite is None.
    """
    seconds = {place(m): m for m in report.seconds}
    versus = {(c.suite, c.second, c.metric, c.scorer): c for c in report.comparisons}
    # perplexity is an exponential: what is compared is its logarithm
    versus |= {(suite, lane, "perplexity", scorer): c for (suite, lane, metric, scorer), c in versus.items()
               if metric == "log_loss"}
    found = []
    for m in report.measures:
        row = _row(m, report)
        if second := seconds.get(place(m)):
            row["second"] = {key: value for key, value in _row(second, report).items() if key not in ("suite", "lane", "metric")}
        if compared := versus.get((*place(m), m.scorer)):
            row["versus"] = {"lane": compared.first} | {
                key: value for key, value in _plain(compared).items() if key not in ("suite", "first", "second", "scorer")}
        found.append(row)
    return found


def as_json(report: Report) -> dict[str, Any]:
    """The whole report but its replies."""
    return {
        "schema": SCHEMA, "made_with": dict(report.made_with), "measures": rows(report),
        "details": [_row(m, report) for m in report.details], "comparisons": list(map(_plain, report.comparisons)),
        "agreements": list(map(_plain, report.agreements)), "scorers": dict(report.scorers), "notes": list(report.notes)}


def place(m: Measure) -> tuple[str, str, str]:
    """What a figure is about, whoever judged: suite, lane and metric."""
    return m.suite, m.lane, m.metric


def _row(m: Measure, report: Report) -> dict[str, Any]:
    return {**_plain(m), "digest": report.scorers.get(m.scorer, "")}


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields, with None for every number that JSON does not have."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in dataclasses.asdict(record).items()}
