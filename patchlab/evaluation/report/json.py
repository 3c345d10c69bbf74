"""A report as rows and as JSON; docs/report-format.md explains the keys."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from patchlab.records import Measure, Report

SCHEMA = 1


def rows(report: Report) -> list[dict[str, Any]]:
    """One row per suite, lane and metric, with the value of a second scorer and the comparison with the lane before, if any.

    NaN and infinity become None.
    """
    seconds = {place(m): m for m in report.seconds}
    versus = {(c.suite, c.second, c.metric, c.scorer): c for c in report.comparisons}
    # perplexity is compared as its logarithm
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
    """The whole report except its replies."""
    return {
        "schema": SCHEMA, "made_with": dict(report.made_with), "measures": rows(report),
        "details": [_row(m, report) for m in report.details], "comparisons": _plain(report.comparisons),
        "agreements": _plain(report.agreements), "scorers": dict(report.scorers), "notes": list(report.notes)}


def place(m: Measure) -> tuple[str, str, str]:
    """Suite, lane and metric of a measure, which do not depend on its scorer."""
    return m.suite, m.lane, m.metric


def _row(m: Measure, report: Report) -> dict[str, Any]:
    return {**_plain(m), "digest": report.scorers.get(m.scorer, "")}


def _plain(records: Any) -> Any:
    """Records as plain JSON values; NaN and infinity become None."""
    return to_jsonable_python(records, inf_nan_mode="null")
