"""A report as one HTML page that needs no other file and makes no request.

plotly.js is the copy that plotly.py contains, included in the page. Replies are escaped and collapsed, with a warning in front.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from patchlab.errors import MissingExtraError
from patchlab.evaluation.report import markdown
from patchlab.records import Measure, Reply, Report, Score
from patchlab.scoring import load_scorer

COLORS = {"base": "#c07a1c", "patched": "#5b6ee1", "reference": "#7c8aa0"}
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)


def page(report: Report) -> str:
    """The page. Raises MissingExtraError if plotly is not installed."""
    def cells(measures: Sequence[Measure]) -> list[tuple[str, ...]]:
        return [(*markdown.figure_cells(m), report.scorers.get(m.scorer, "")[:12]) for m in measures]

    figures, made = (*markdown.FIGURES, "digest"), report.made_with
    return TEMPLATES.get_template("report.html.j2").render(
        report=report, plotly_js=_plotly_js(), charts=_charts(report), examples=_examples(report),
        patched=" with ".join(filter(None, [made.get("preset"), made.get("stack")])),
        figures=(figures, cells(markdown.in_order(report))), details=(figures, cells(report.details)),
        compared=(markdown.COMPARED, map(markdown.compared_cells, report.comparisons)),
        agreed=(markdown.AGREED, map(markdown.agreed_cells, report.agreements)))


def _plotly_js() -> str:
    """plotly.js without the reference to its source map, which a browser would request."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError("plotly is not installed", expected="it for the charts of the report",
                                do="pip install plotly") from None
    return str(get_plotlyjs()).split("\n//# sourceMappingURL=")[0]


def _charts(report: Report) -> dict[str, list[dict[str, str]]]:
    """By suite, a bar chart per metric with one bar per lane.

    If two scorers measured a metric of one lane, each scorer has a chart. Otherwise lanes share a chart even if different
    models judged them, as for log-loss, where no model judges its own replies.
    """
    charts: dict[str, list[dict[str, str]]] = {}
    for suite in dict.fromkeys(m.suite for m in report.measures):
        measures = [m for m in markdown.in_order(report) if m.suite == suite and m.n]
        places = [(m.metric, m.lane) for m in measures]
        groups: dict[tuple[str, str], list[Measure]] = {}
        for m in measures:
            groups.setdefault((m.metric, m.scorer if places.count((m.metric, m.lane)) > 1 else ""), []).append(m)
        charts[suite] = [{
            "title": metric.replace("_", " "), "figure": json.dumps(_figure(group)),
            "words": "; ".join(f"{m.lane} {markdown.number(m.value)}, {markdown.interval_text(m.low, m.high)}" for m in group),
            "judges": f"by {group[0].scorer}" if len({m.scorer for m in group}) == 1
            else "; ".join(f"{m.lane} by {m.scorer}" for m in group)} for (metric, _), group in groups.items()]
    return charts


def _figure(measures: list[Measure]) -> dict[str, Any]:
    """The data of a chart; its layout is in the template."""
    measures = measures[::-1]  # plotly draws the first bar at the bottom
    bars = {"y": [m.lane for m in measures], "x": [m.value for m in measures],
            "marker": {"color": [COLORS.get(m.lane, "#2f9e8f") for m in measures]},
            "error_x": {"array": [max(0.0, m.high - m.value) for m in measures],
                        "arrayminus": [max(0.0, m.value - m.low) for m in measures]},
            "customdata": [[markdown.interval_text(m.low, m.high), m.n] for m in measures]}
    return {"data": [bars], "rate": all("_rate" in m.metric for m in measures)}


def _examples(report: Report) -> dict[str, list[tuple[Reply, Score]]]:
    """The replies by prompt, each with its toxicity score; the page collapses a flagged one separately."""
    if not report.replies:
        return {}
    by_prompt: dict[str, list[Reply]] = {}
    for reply in report.replies:
        by_prompt.setdefault(reply.prompt.text, []).append(reply)
    scorer = load_scorer("toxicity")
    return {prompt: list(zip(replies, scorer.score([reply.text for reply in replies]), strict=True))
            for prompt, replies in by_prompt.items()}
