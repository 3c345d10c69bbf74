"""A chart that is updated in place, drawn by the plotly.min.js that plotly.py brings along, served by the page itself.

gr.Plot builds its chart anew for every figure, which flickers at streaming pace. Here one node lives as long as the
page and every new value goes to Plotly.react. It is a function around gr.HTML and no subclass, because gradio writes a
.pyi file next to the source of every component class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import plotly

LIBRARY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

# No value is placed in the template: it never changes, so gradio never touches the node that Plotly owns.
TEMPLATE = '<div class="live-chart-node" role="img"></div>'

SCRIPT = """
const node = element.querySelector('.live-chart-node');
const page = getComputedStyle(document.documentElement);
const themed = (layout) => {
  const style = getComputedStyle(element);
  const text = style.getPropertyValue('--body-text-color-subdued').trim() || '#666';
  const grid = style.getPropertyValue('--border-color-primary').trim() || '#ddd';
  return {...layout,
    font: {...layout.font, color: text, family: style.fontFamily},
    xaxis: {linecolor: grid, showline: true, ...layout.xaxis},
    yaxis: {...layout.yaxis, gridcolor: grid}};
};
// words inside a chart are read like the page's own text
const inked = (data) => {
  const text = getComputedStyle(element).getPropertyValue('--body-text-color').trim() || '#222';
  return data.map((each) => each.texttemplate ? {...each, textfont: {...each.textfont, color: text}} : each);
};
const draw = () => {
  const figure = props.value;
  if (!figure || !figure.data) return;
  node.setAttribute('aria-label', figure.summary);
  node.dataset.points = figure.data.map((line) => line.x.length).join(' ');
  if (!window.Plotly) { node.textContent = figure.summary; return; }
  window.Plotly.react(node, inked(figure.data), themed(figure.layout), {displayModeBar: false, responsive: true});
};
// on a slow computer values come faster than they can be drawn: draw the newest, at most ten times a second
let waiting = null;
const later = () => { waiting ??= setTimeout(() => { waiting = null; draw(); }, 100); };
draw();
watch('value', later);
new MutationObserver(later).observe(document.body, {attributes: true, attributeFilter: ['class']});
new ResizeObserver(() => { if (node.data && node.offsetWidth) window.Plotly.Plots.resize(node); }).observe(element);
"""


def live_chart(figure: dict[str, Any], *, elem_id: str) -> gr.HTML:
    """A component whose value is a figure of `charts.figure`; a new value changes the drawing, not the node.

    A figure without a height takes that of its node, which the style sheet sets.
    """
    gr.set_static_paths([LIBRARY])
    return gr.HTML(
        value=figure,
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        # relative, so that it also holds behind a proxy that serves the page under a longer path
        head=f'<script src="gradio_api/file={LIBRARY}"></script>',
        apply_default_css=False,
        min_height=figure["layout"].get("height"),
        elem_id=elem_id,
        elem_classes=["live-chart"],
    )
