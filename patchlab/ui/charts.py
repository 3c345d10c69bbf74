"""Scores as Plotly figures, in plain dictionaries: no model, no page, no plotly import is needed to make one.

Colours are mid-tones that stand out on white and on near-black alike; text and grid take the page's own in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patchlab.ui.copy import lane_words
from patchlab.ui.session import View

# a line is known by its dash as well as by its colour
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#c07a1c", "width": 2.5, "dash": "solid"},
    {"color": "#5b6ee1", "width": 3.5, "dash": "solid"},
    {"color": "#7c8aa0", "width": 2.5, "dash": "dot"},
    {"color": "#2f9e8f", "width": 2.5, "dash": "dash"},
)
TITLES = {"toxicity": "Toxicity", "refusal": "Refusal"}
OVER = {"toxicity": "toxic above", "refusal": "refused above"}


def style(index: int) -> dict[str, Any]:
    """The line style of the lane at `index`; more lanes than styles start over."""
    return STYLES[index % len(STYLES)]


def stroke(line: Mapping[str, Any]) -> str:
    """A line style's colour and stroke as CSS variables."""
    kind = {"solid": "solid", "dot": "dotted", "dash": "dashed"}[line["dash"]]
    return f"--lane-colour: {line['color']}; --lane-line: {kind}"


def _axes(longest: int) -> dict[str, Any]:
    quiet = {"fixedrange": True, "zeroline": False, "automargin": True}
    return {
        "xaxis": {**quiet, "title": {"text": "length of the reply in tokens", "standoff": 8}, "showgrid": False,
                  "range": [0, max(longest, 12)], "rangemode": "tozero"},
        "yaxis": {**quiet, "range": [-0.02, 1.02], "tickvals": [0, 0.25, 0.5, 0.75, 1], "tickformat": ".2f"},
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
    lines = {lane.name: lane.lines.get(scorer, ()) for lane in view.lanes} if view else {}
    data = []
    for index, name in enumerate(lanes):
        points = lines.get(name, ())
        data.append({
            "type": "scatter", "mode": "lines+markers" if len(points) == 1 else "lines",
            "name": lane_words(name).title, "x": [tokens for tokens, _ in points],
            "y": [round(score, 3) for _, score in points], "line": style(index),
            "hovertemplate": "%{y:.2f} at %{x} tokens<extra>%{fullData.name}</extra>",
        })
    longest = max((points[-1][0] for points in lines.values() if points), default=0)
    layout: dict[str, Any] = {
        "template": None, "height": 240, "margin": {"l": 8, "r": 12, "t": 8, "b": 8}, "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "hovermode": "closest",
        "font": {"size": 12}, "uirevision": scorer, **_axes(longest),
    }
    if view and scorer in view.thresholds:
        layout |= _threshold(scorer, view.thresholds[scorer])
    return {"data": data, "layout": layout, "summary": summary(scorer, data)}


def summary(scorer: str, data: Sequence[dict[str, Any]]) -> str:
    """A figure's last values in one sentence."""
    parts = [f"{line['name']} {line['y'][-1]:.2f}" for line in data if line["y"]]
    title = TITLES.get(scorer, scorer.capitalize())
    return f"{title} score of the text so far: {', '.join(parts)}." if parts else f"{title} score: no text yet."
