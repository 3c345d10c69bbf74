"""What each strength of a patch does, as its makers measured it: a chart with the strength that is set now marked in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from patchlab.errors import PatchLabError
from patchlab.patches.manifest import CURVE_FILE, MAX_STRENGTH
from patchlab.ui import charts, copy
from patchlab.ui.compare.patch_panel import TYPED, PatchPanel
from patchlab.ui.diff import escaped
from patchlab.ui.live_chart import live_chart

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.patches import Curve
    from patchlab.records import Measure

log = logging.getLogger(__name__)
MARK = "#8a94a6"


class CurveLine(NamedTuple):
    """A line of the chart: whose figures it shows, its words, style and axis."""

    suite: str
    metric: str
    words: str
    style: dict[str, Any]
    axis: str = "y"


HARMLESS = CurveLine("overrefusal", "refusal_rate", "Harmless requests refused", charts.style(0))
DRIFT = CurveLine("drift", "kl_to_base", "Drift on harmless requests (right)", charts.style(2), "y2")
OWN = tuple(CurveLine(suite, metric, words, charts.style(1)) for suite, metric, words in (
    ("refusal", "refusal_rate", "Harmful requests refused"), ("toxicity", "toxic_rate", "Toxic replies"),
    ("bias", "stereotype_rate", "Stereotyped pronouns (0.5 is even)")))


def lines(curve: Curve) -> list[CurveLine]:
    """The lines a curve has figures for, the patch's own purpose first."""
    held = {(measure.suite, measure.metric) for point in curve.points for measure in point.measures}
    return [line for line in (*OWN, HARMLESS, DRIFT) if (line.suite, line.metric) in held]


def figure(curve: Curve, strength: float) -> dict[str, Any]:
    """The chart of a curve as Plotly's `data` and `layout`, a line upright at `strength`, and `summary`, the same in words.

    Thin bars are the 95 % intervals.
    """
    drawn = [(line, _points(curve, line)) for line in lines(curve)]
    far = max((measure.high for line, found in drawn if line.axis == "y2" for _, measure in found), default=0.0)
    quiet = {"fixedrange": True, "zeroline": False, "automargin": True}
    words = {"x": strength, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False, "text": f"now {strength:g}",
             "xanchor": "left" if strength < MAX_STRENGTH / 4 else "right" if strength > 3 * MAX_STRENGTH / 4 else "center",
             "font": {"size": 11}}
    layout = {
        "template": None, "height": 240, "margin": {"l": 8, "r": 8, "t": 22, "b": 8}, "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "hovermode": "closest",
        "font": {"size": 12}, "annotations": [words],
        "shapes": [{"type": "line", "yref": "paper", "x0": strength, "x1": strength, "y0": 0, "y1": 1,
                    "line": {"color": MARK, "width": 2}}],
        "xaxis": {**quiet, "title": {"text": "strength", "standoff": 8}, "showgrid": False,
                  "range": [-0.04, MAX_STRENGTH + 0.04]},
        "yaxis": {**quiet, "range": [-0.02, 1.02], "tickvals": [0, 0.25, 0.5, 0.75, 1], "tickformat": ".2f"},
        "yaxis2": {**quiet, "overlaying": "y", "side": "right", "showgrid": False, "range": [0, max(far, 0.05) * 1.05],
                   "nticks": 5}}
    return {"data": [_trace(line, found) for line, found in drawn], "layout": layout, "summary": summary(curve, strength)}


def summary(curve: Curve, strength: float) -> str:
    """What was measured at the strength nearest to one, in a sentence."""
    point = min(curve.points, key=lambda point: abs(point.strength - strength))
    found = {(measure.suite, measure.metric): measure for measure in point.measures}
    said = [f"{line.words.split(' (')[0].lower()} {found[line.suite, line.metric].value:.2f}" for line in lines(curve)
            if (line.suite, line.metric) in found]
    n = max((measure.n for measure in point.measures), default=0)
    return f"Measured at strength {point.strength:g}: {', '.join(said) or 'nothing'} (up to {n} prompts each)."


def _points(curve: Curve, line: CurveLine) -> list[tuple[float, Measure]]:
    return [(point.strength, measure) for point in curve.points for measure in point.measures
            if (measure.suite, measure.metric) == (line.suite, line.metric)]


def _trace(line: CurveLine, found: Sequence[tuple[float, Measure]]) -> dict[str, Any]:
    bars = {"type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": line.style["color"],
            "array": [round(m.high - m.value, 4) for _, m in found], "arrayminus": [round(m.value - m.low, 4) for _, m in found]}
    return {"type": "scatter", "mode": "lines+markers", "name": line.words, "x": [strength for strength, _ in found],
            "y": [round(measure.value, 4) for _, measure in found], "yaxis": line.axis, "error_y": bars,
            "line": line.style, "marker": {"size": 5},
            "hovertemplate": "%{y:.3f} at strength %{x}<extra>%{fullData.name}</extra>"}


def legend(curve: Curve) -> str:
    """The key of the lines, and the summary's own place for those who see the chart."""
    items = "".join(f'<li style="{charts.stroke(line.style)}">{escaped(line.words)}</li>' for line in lines(curve))
    return f'<ul class="legend">{items}</ul>'


def curves(lab: Lab) -> dict[str, tuple[str, Curve]]:
    """Title and curve of each installed patch that has one, by name; a patch that cannot be read is left out, as the log says."""
    found = {}
    for each in lab.planner.installed():
        if CURVE_FILE in each.manifest.files:
            try:
                curve = lab.planner.patch(each.manifest.name, each.manifest.version).curve
            except PatchLabError as error:
                log.warning("no curve of patch %s: %s", each.manifest.name, error)
                continue
            if curve:
                found[each.manifest.name] = (each.manifest.title, curve)
    return found


def build(lab: Lab, panel: PatchPanel) -> None:
    """Place the chart, where any patch has a curve, and let it follow the panel's strengths."""
    known = curves(lab)
    if not known:
        return
    names = list(known)
    with gr.Column(elem_id="curve", elem_classes=["evaluate-chart"]):
        gr.HTML(f'<h2>{copy.CURVE_TITLE}</h2><p class="note">{escaped(copy.CURVE_NOTE)}</p>', apply_default_css=False)
        chosen = gr.Radio([(known[name][0], name) for name in names], value=names[0], label=copy.CURVE_LABEL,
                          visible=len(names) > 1, elem_id="curve-patch")
        key = gr.HTML(legend(known[names[0]][1]), apply_default_css=False)
        chart = live_chart(figure(known[names[0]][1], panel.strength(names[0], panel.begun)), elem_id="chart-curve")

    def draw(values: Mapping[Any, Any]) -> dict[Any, Any]:
        curve = known[values[chosen]][1]
        return {key: legend(curve), chart: figure(curve, panel.strength(values[chosen], values))}

    gr.on([chosen.change, panel.mode.change, panel.shared.change, *(slot.strength.change for slot in panel.slots)], draw,
          panel.inputs | {chosen}, [key, chart], queue=False, show_progress="hidden", api_visibility="private",
          trigger_mode="always_last", js=TYPED)
