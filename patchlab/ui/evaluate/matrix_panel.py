"""The saved interactions of the patches as a heat map with sentences.

It follows the mode that the visitor chose for the stack. Where nothing was measured there is one sentence and no chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.ui import copy
from patchlab.ui.diff import escaped
from patchlab.ui.evaluate import interaction_heatmap
from patchlab.ui.live_chart import live_chart

if TYPE_CHECKING:
    from patchlab.patches.interactions import Interactions
    from patchlab.patches.manifest import Manifest
    from patchlab.patches.stack import Mode

FIRST = "own"


def build(manifests: Sequence[Manifest], interactions: Interactions, mode: gr.Radio) -> None:
    """Place the section and let it follow `mode`; with fewer than two patches there is nothing to say."""
    if len(manifests) < 2:
        return
    start: Mode = mode.value or "parallel"
    with gr.Column(elem_id="matrix", elem_classes=["evaluate-chart"]):
        gr.HTML(f"<h2>{copy.MATRIX_TITLE}</h2>", apply_default_css=False)
        words = gr.HTML(said(interactions, manifests, start), apply_default_css=False)
        # the sheet hides this where nothing was measured: a part that gradio hides at first is not there when it is shown
        with gr.Column(elem_classes=["matrix-shown"]):
            shown = gr.Radio([(each.title, name) for name, each in interaction_heatmap.SHOWN.items()], value=FIRST,
                             label=copy.MATRIX_SHOW, elem_id="matrix-show")
            chart = live_chart(interaction_heatmap.figure(interactions, manifests, start, FIRST), elem_id="chart-matrix")
            notes = gr.HTML(note(interactions, manifests, start, FIRST), apply_default_css=False)

    def show(mode: Mode, which: str) -> tuple[str, dict[str, Any], str]:
        """The matrix of another mode or of another figure."""
        return (said(interactions, manifests, mode), interaction_heatmap.figure(interactions, manifests, mode, which),
                note(interactions, manifests, mode, which))

    gr.on([mode.change, shown.change], show, [mode, shown], [words, chart, notes], queue=False, show_progress="hidden",
          api_visibility="private")


def said(interactions: Interactions, manifests: Sequence[Manifest], mode: Mode) -> str:
    """What was found, as a paragraph with commands as code; its class says where nothing was."""
    parts = escaped(interaction_heatmap.summary(interactions, manifests, mode)).split("`")
    state = "" if interaction_heatmap.measured(interactions, manifests, mode) else " unmeasured"
    return f"<p class='note matrix-said{state}'>" + "".join(f"<code>{part}</code>" if k % 2 else part
                                                            for k, part in enumerate(parts)) + "</p>"


def note(interactions: Interactions, manifests: Sequence[Manifest], mode: Mode, which: str) -> str:
    """How to read the chart."""
    counted = interaction_heatmap.counted(interactions, manifests, mode) if which == "own" else ""
    order = copy.MATRIX_ORDER if mode == "sequential" else ""
    words = " ".join(filter(None, (interaction_heatmap.SHOWN[which].note, order, counted, copy.MATRIX_NOTE)))
    return f"<p class='note'>{escaped(words)}</p>"
