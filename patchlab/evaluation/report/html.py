"""The report as one page that needs no other file and asks no other host.

plotly.js is the copy that plotly.py brings along, written into the page. Whatever a model said is escaped, folded away, and
named before it can be read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from patchlab.errors import MissingExtraError
from patchlab.evaluation.report.markdown import (
    AGREED,
    COMPARED,
    FIGURES,
    agreed_cells,
    compared_cells,
    figure_cells,
    in_order,
    interval_words,
    number,
)
from patchlab.records import Measure, Reply, Report, Score
from patchlab.scoring import load_scorer

COLORS = {"base": "#c07a1c", "patched": "#5b6ee1", "reference": "#7c8aa0"}
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)


def page(report: Report) -> str:
    """The page. Raises MissingExtraError where plotly is not installed."""
    made = report.made_with
    return TEMPLATES.get_template("report.html.j2").render(
        report=report, plotly_js=_library(), charts=_charts(report), examples=_examples(report),
        patched=" with ".join(filter(None, [made.get("preset"), made.get("stack")])),
        figures_head=(*FIGURES, "digest"), figures=[_cells(m, report) for m in in_order(report)],
        details=[_cells(m, report) for m in report.details],
        compared_head=COMPARED, compared=[compared_cells(c) for c in report.comparisons],
        agreed_head=AGREED, agreed=[agreed_cells(a) for a in report.agreements])


def _library() -> str:
    """plotly.js without the note that points to a map of its source, which a browser would ask for."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError("plotly is not installed", expected="it for the charts of the report",
                                do="pip install plotly") from None
    return str(get_plotlyjs()).split("\n//# sourceMappingURL=")[0]


def _cells(m: Measure, report: Report) -> tuple[str, ...]:
    return *figure_cells(m), report.scorers.get(m.scorer, "")[:12]


def _charts(report: Report) -> dict[str, list[dict[str, str]]]:
    """A small chart a metric, the lanes under one another, in the order of suites."""
    charts: dict[str, list[dict[str, str]]] = {}
    for suite in dict.fromkeys(m.suite for m in report.measures):
        own = [m for m in in_order(report) if m.suite == suite and m.n]
        groups: dict[tuple[str, str], list[Measure]] = {}
        for m in own:
            groups.setdefault((m.metric, _chart_of(m, own)), []).append(m)
        charts[suite] = [{
            "title": metric.replace("_", " "), "figure": json.dumps(_figure(some)),
            "words": "; ".join(f"{m.lane} {number(m.value)}, {interval_words(m.low, m.high)}" for m in some),
            "judges": f"by {some[0].scorer}" if len({m.scorer for m in some}) == 1
            else "; ".join(f"{m.lane} by {m.scorer}" for m in some)} for (metric, _), some in groups.items()]
    return charts


def _chart_of(m: Measure, own: Sequence[Measure]) -> str:
    """Which of a metric's charts a figure belongs to: a second scorer has its own; lanes that no one model can judge share."""
    judges = [each.scorer for each in own if (each.metric, each.lane) == (m.metric, m.lane)]
    return m.scorer if len(judges) > 1 else ""


def _figure(measures: Sequence[Measure]) -> dict[str, Any]:
    measures = measures[::-1]  # the first lane on top
    data = [{"type": "bar", "orientation": "h", "y": [m.lane for m in measures], "x": [m.value for m in measures],
             "marker": {"color": [COLORS.get(m.lane, "#2f9e8f") for m in measures]},
             "error_x": {"type": "data", "symmetric": False,
                         "array": [max(0.0, m.high - m.value) for m in measures],
                         "arrayminus": [max(0.0, m.value - m.low) for m in measures]},
             "customdata": [[interval_words(m.low, m.high), m.n] for m in measures],
             "hovertemplate": "%{y}: %{x:.3f} (%{customdata[0]}), n = %{customdata[1]}<extra></extra>"}]
    rate = all("_rate" in m.metric for m in measures)
    quiet = {"fixedrange": True, "automargin": True, "zeroline": False, "gridcolor": "#8a94a640"}
    layout = {"height": 60 + 34 * len(measures), "margin": {"l": 8, "r": 12, "t": 8, "b": 8}, "template": None,
              "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "bargap": 0.35,
              "xaxis": {**quiet, "range": [0, 1.02]} if rate else {**quiet, "rangemode": "tozero"}, "yaxis": quiet}
    return {"data": data, "layout": layout}


def _examples(report: Report) -> dict[str, list[tuple[Reply, Score]]]:
    """The replies by prompt, each with its toxicity; a reply that is flagged is folded away once more."""
    if not report.replies:
        return {}
    by_prompt: dict[str, list[Reply]] = {}
    for reply in report.replies:
        by_prompt.setdefault(reply.prompt.text, []).append(reply)
    scorer = load_scorer("toxicity")
    return {asked: list(zip(some, scorer.score([reply.text for reply in some]), strict=True))
            for asked, some in by_prompt.items()}
