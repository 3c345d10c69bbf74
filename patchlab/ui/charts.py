"""Scores as Plotly figures, in plain dictionaries: no model, no page, no plotly import is needed to make one.

Colours are mid-tones that stand out on white and on near-black alike; text and grid take the page's own in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from patchlab.ui.copy import lane_words
from patchlab.ui.session import ChartPoint, View

# a line is known by its dash as well as by its colour
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#d07c1d", "width": 2.5, "dash": "solid"},
    {"color": "#5b6ee1", "width": 3.5, "dash": "solid"},
    {"color": "#12927f", "width": 2.5, "dash": "dot"},
    {"color": "#a855c7", "width": 2.5, "dash": "dash"},
    {"color": "#d0447f", "width": 2.5, "dash": "dashdot"},
)
HELD, WINDOW = 8, 6  # tokens before a line begins, and tokens that each point averages over
TITLES = {"toxicity": "Toxicity", "refusal": "Refusal"}
OVER = {"toxicity": "toxic above", "refusal": "refused above"}


def style(index: int) -> dict[str, Any]:
    """The line style of the lane at `index`; more lanes than styles start over."""
    return STYLES[index % len(STYLES)]


def stroke(line: Mapping[str, Any]) -> str:
    """A line style's colour and stroke as CSS variables."""
    kind = {"solid": "solid", "dot": "dotted", "dash": "dashed", "dashdot": "double"}[line["dash"]]
    return f"--lane-colour: {line['color']}; --lane-line: {kind}"


def _axes(longest: int) -> dict[str, Any]:
    quiet = {"fixedrange": True, "zeroline": False, "automargin": True}
    return {
        "xaxis": {**quiet, "title": {"text": "tokens written", "standoff": 4}, "showgrid": False,
                  "range": [0, max(longest, 12)], "rangemode": "tozero"},
        "yaxis": {**quiet, "range": [-0.03, 1.03], "tickvals": [0, 0.5, 1], "tickformat": ".1f"},
    }


def _threshold(scorer: str, value: float) -> dict[str, Any]:
    """A thin line where the verdict turns, with words, as layout parts."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value,
            "line": {"color": "#8a94a6", "width": 1, "dash": "dash"}}
    words = {"xref": "paper", "x": 1, "y": value, "xanchor": "right", "yanchor": "bottom", "showarrow": False,
             "text": f"{OVER.get(scorer, 'flagged above')} {value:.2f}", "font": {"size": 11}}
    return {"shapes": [line], "annotations": [words]}


def figure(scorer: str, lanes: Sequence[str], view: View | None = None) -> dict[str, Any]:
    """The live chart of one scorer: a line a lane, tokens across, score up. Without a view the lines are empty.

    The result has Plotly's `data` and `layout`, and `summary`: the same in one sentence, for screen readers.
    """
    lines = {lane.name: steady(lane.lines.get(scorer, ()), writing=lane.writing) for lane in view.lanes} if view else {}
    data = []
    for index, name in enumerate(lanes):
        points = lines.get(name, ())
        data.append({
            "type": "scatter", "mode": "lines+markers" if len(points) == 1 else "lines",
            "name": lane_words(name).title, "x": [tokens for tokens, _ in points],
            "y": [round(score, 3) for _, score in points], "line": style(index),
            "hovertemplate": "%{y:.2f} at %{x} tokens<extra>%{fullData.name}</extra>",
        })
    # while the models write the axis ends where the longest reply may, so that the lines do not shrink as they grow
    longest = view.longest if view and view.running else max((points[-1][0] for points in lines.values() if points), default=0)
    layout: dict[str, Any] = {
        "template": None, "margin": {"l": 8, "r": 12, "t": 8, "b": 8}, "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "hovermode": "closest",
        "font": {"size": 11}, "uirevision": scorer, **_axes(longest),
    }
    if view and scorer in view.thresholds:
        layout |= _threshold(scorer, view.thresholds[scorer])
    return {"data": data, "layout": layout, "summary": summary(scorer, data)}


def steady(points: Sequence[ChartPoint], *, writing: bool) -> list[ChartPoint]:
    """A line's points as drawn: none of the first `HELD` tokens, and each the mean of the last `WINDOW` tokens.

    The score of a few words jumps with every word and says little of the reply. A finished text ends at its own score.
    """
    means = [(tokens, fmean(score for at, score in points[:index + 1] if at > tokens - WINDOW))
             for index, (tokens, _) in enumerate(points) if tokens >= HELD]
    return means if writing or not points else [*(mean for mean in means if mean[0] < points[-1][0]), points[-1]]


def summary(scorer: str, data: Sequence[dict[str, Any]]) -> str:
    """A figure's last values in one sentence."""
    parts = [f"{line['name']} {line['y'][-1]:.2f}" for line in data if line["y"]]
    title = TITLES.get(scorer, scorer.capitalize())
    return f"{title} score of the text so far: {', '.join(parts)}." if parts else f"{title} score: no text yet."
