"""The report as one page that needs no other file and asks no other host, and all of a report's files.

plotly.js is the copy that plotly.py brings along, written into the page; the page's own policy forbids every request.
Whatever a model said is escaped, folded away, and named before it can be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from patchlab.errors import MissingExtraError
from patchlab.evaluation.report.tables import (
    as_json,
    as_markdown,
    compared_cells,
    in_order,
    interval_words,
    number,
)
from patchlab.records import Measure, Reply, Report
from patchlab.scoring import load_scorer
from patchlab.storage import write_json, write_text

COLORS = {"base": "#c07a1c", "patched": "#5b6ee1", "reference": "#7c8aa0"}
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1,h2,h3{line-height:1.2} h2{margin-top:2.5rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
figure{margin:0;min-width:0} figcaption{font-weight:600}
.wide{overflow-x:auto} table{border-collapse:collapse;font-size:.9rem} th,td{padding:.25rem .6rem;text-align:left}
th{border-bottom:1px solid #8a94a6} td{border-bottom:1px solid #8a94a640} td.n{font-variant-numeric:tabular-nums}
details{margin:.4rem 0} summary{cursor:pointer} details details{margin-left:1.2rem}
blockquote{margin:.3rem 0 .3rem 1.2rem;white-space:pre-wrap;overflow-wrap:anywhere}
.quiet{opacity:.75;font-size:.9rem}
"""
SCRIPT = """
const text = getComputedStyle(document.body).color;
for (const node of document.querySelectorAll('[data-figure]')) {
  const figure = JSON.parse(node.dataset.figure);
  for (const bars of figure.data) bars.error_x.color = text;
  const layout = {...figure.layout, font: {size: 12, color: text, family: 'system-ui, sans-serif'}};
  Plotly.newPlot(node, figure.data, layout, {displayModeBar: false, responsive: true});
}
"""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write_report(report: Report, folder: Path) -> None:
    """Write report.json, report.md and report.html into `folder`."""
    write_json(folder / "report.json", as_json(report))
    write_text(folder / "report.md", as_markdown(report))
    write_text(folder / "report.html", page(report))


def page(report: Report) -> str:
    """The page. Raises MissingExtraError where plotly is not installed."""
    made = report.made_with
    patched = f"{made.get('preset', '')} with {made.get('stack', '')}" if made.get("stack") else made.get("preset", "")
    body = [f"<h1>Evaluation: {escape(patched)}</h1>",
            "<p>Every figure is a mean over n prompts with its 95 % bootstrap interval. It holds for these prompts, these "
            "scorers and this sampling, and for nothing else.</p>", *(_notes(report)), *_charts(report),
            "<h2>All figures</h2>", _table(("suite", "metric", "lane", "value", "95 % interval", "n", "scorer", "digest"),
                                           [_cells(m, report) for m in in_order(report)]),
            *_comparisons(report), *_agreements(report), *_details(report), *_examples(report),
            "<h2>Made with</h2>", _table(("setting", "value"), list(made.items()))]
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>Evaluation: {escape(patched)}</title><style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(body) + f"\n<script>{_library()}</script>\n<script>{SCRIPT}</script>\n</body></html>\n")


def _library() -> str:
    """plotly.js without the note that points to a map of its source, which a browser would ask for."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError("plotly is not installed", expected="it for the charts of the report",
                                do="pip install plotly") from None
    return str(get_plotlyjs()).split("\n//# sourceMappingURL=")[0]


def _notes(report: Report) -> Iterator[str]:
    if report.notes:
        yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in report.notes)}</ul>"


def _charts(report: Report) -> Iterator[str]:
    """A small chart a metric, the lanes under one another, in the order of suites."""
    for suite in dict.fromkeys(m.suite for m in report.measures):
        yield f'<h2>{escape(suite)}</h2><div class="charts">'
        own = [m for m in in_order(report) if m.suite == suite and m.n]
        groups: dict[tuple[str, str], list[Measure]] = {}
        for m in own:
            groups.setdefault((m.metric, _chart_of(m, own)), []).append(m)
        for (metric, _), some in groups.items():
            words = "; ".join(f"{m.lane} {number(m.value)}, {interval_words(m.low, m.high)}" for m in some)
            figure = escape(json.dumps(_figure(some)), quote=True)
            alike = len({m.scorer for m in some}) == 1
            judges = some[0].scorer if alike else "; ".join(f"{m.lane} by {m.scorer}" for m in some)
            yield (f"<figure><figcaption>{escape(metric.replace('_', ' '))}</figcaption>"
                   f'<div role="img" aria-label="{escape(words, quote=True)}" data-figure="{figure}"></div>'
                   f'<div class="quiet">{"by " if alike else ""}{escape(judges)}</div></figure>')
        yield "</div>"


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


def _cells(m: Measure, report: Report) -> tuple[str, ...]:
    return (m.suite, m.metric, m.lane, number(m.value), interval_words(m.low, m.high), str(m.n), m.scorer,
            report.scorers.get(m.scorer, "")[:12])


def _comparisons(report: Report) -> Iterator[str]:
    if report.comparisons:
        yield ("<h2>Lanes compared</h2><p>On the same prompts, second lane minus first. p is two-sided, from random flips of "
               "the signs of the differences, and not corrected for the number of comparisons.</p>")
        yield _table(("suite", "metric", "lanes", "difference", "95 % interval", "p", "n", "scorer"),
                     [compared_cells(c) for c in report.comparisons])


def _agreements(report: Report) -> Iterator[str]:
    if report.agreements:
        yield ("<h2>Scorers compared</h2><p>Two scorers on the same replies. Cohen's kappa is 1 where they agree on all and 0 "
               "where they agree as often as chance would.</p>")
        yield _table(("suite", "scorers", "kappa", "95 % interval", "judged alike", "replies"), [
            (a.suite, f"{a.first}, {a.second}", number(a.kappa), interval_words(a.low, a.high), number(a.alike), str(a.n))
            for a in report.agreements])


def _details(report: Report) -> Iterator[str]:
    if report.details:
        yield "<h2>By occupation</h2><details><summary>All occupations</summary>"
        yield _table(("suite", "metric", "lane", "value", "95 % interval", "n", "scorer", "digest"),
                     [_cells(m, report) for m in report.details])
        yield "</details>"


def _examples(report: Report) -> Iterator[str]:
    """The first replies, folded away twice where the toxicity scorer flags them or the prompt."""
    if not report.replies:
        return
    yield ("<h2>Examples</h2><details><summary>Show prompts and replies as they are. They may be toxic, harmful or wrong: "
           "that is what is measured.</summary>")
    scorer = load_scorer("toxicity")
    by_prompt: dict[str, list[Reply]] = {}
    for reply in report.replies:
        by_prompt.setdefault(reply.prompt.text, []).append(reply)
    for asked, some in by_prompt.items():
        yield f"<h3>{escape(asked)}</h3>"
        for reply, score in zip(some, scorer.score([reply.text for reply in some]), strict=True):
            said = f"<blockquote>{escape(reply.text) or '(nothing)'}</blockquote>"
            name = escape(f"{reply.lane}, sample {reply.sample + 1}")
            yield (f"<details><summary>{name}: scored toxic, open to read</summary>{said}</details>" if score.flagged
                   else f'<div class="quiet">{name}</div>{said}')
    yield "</details>"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in line) + "</tr>\n" for line in body)
    return f'<div class="wide"><table><thead><tr>{first}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>'
