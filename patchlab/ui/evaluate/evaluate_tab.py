"""The Evaluate tab's components: evidence of the patches, their strength curves, the matrix of their side effects, results.

Curves and matrix follow the strengths and the mode of the Compare tab, so they are placed when that one is known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.registry.interaction_files import find_interactions
from patchlab.ui import between_tabs
from patchlab.ui.compare import Compare
from patchlab.ui.diff import coded, escaped
from patchlab.ui.evaluate import curve_panel, evaluate_words, matrix_panel
from patchlab.ui.evaluate.published import published
from patchlab.ui.evidence_table import evidence

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer
    from patchlab.ui.compare.patch_panel import PatchPanel

log = logging.getLogger(__name__)


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None) -> EvaluateTab:
    """Place the tab's components in the open Blocks and give back their handlers."""
    gr.HTML(f'<h2>{evaluate_words.TITLE}</h2><p class="note">{coded(evaluate_words.NOTE)}</p>', apply_default_css=False)
    measured = gr.HTML(evidence_cards(lab), apply_default_css=False, elem_id="evaluate-evidence")
    with gr.Column(elem_id="evaluate-charts") as charts:
        pass
    gr.HTML(published(lab.name), apply_default_css=False, elem_id="evaluate-published")
    return EvaluateTab(lab, measured, charts)


class EvaluateTab:
    """The tab's handlers."""

    def __init__(self, lab: Lab, measured: gr.HTML, charts: gr.Column) -> None:
        self.lab, self.measured, self.charts = lab, measured, charts

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page or chose another preset: nothing of theirs runs here."""

    def join(self, tabs: Sequence[object], opening: Sequence[Any]) -> None:
        """Place the charts beside the Compare tab's panel, and read the evidence again when a patch was installed."""
        for tab in tabs:
            if isinstance(tab, Compare):
                self.place(tab.controls.panel)
        if events := [*opening, *(state.change for state in between_tabs.installing(tabs))]:
            gr.on(events, lambda: evidence_cards(self.lab), None, self.measured, queue=False, show_progress="hidden",
                  api_visibility="private")

    def place(self, panel: PatchPanel) -> None:
        """Place the strength curves and the matrix of side effects; both follow the panel."""
        interactions, broken = find_interactions(self.lab.registry, fingerprints=self.lab.base.fingerprints)
        for words in broken:
            log.warning(words)
        with self.charts:
            gr.HTML(f'<p class="note">{evaluate_words.COMPARE_NOTE}</p>' if panel.slots else "", apply_default_css=False)
            curve_panel.build(self.lab, panel)
            matrix_panel.build(list(panel.first.values()), interactions, panel.mode)


def evidence_cards(lab: Lab) -> str:
    """The evidence of every patch that fits the lab's base, a card a patch."""
    cards = "".join(
        f'<article class="patch-card"><header><h3>{escaped(m.title)}</h3><p class="patch-name"><code>{escaped(m.name)}</code> '
        f"{escaped(m.version)}, strength {m.strength:g}</p></header>{evidence(m.evidence)}</article>"
        for m in (installed.manifest for installed in lab.planner.installed()))
    return f'<div class="patch-cards">{cards}</div>' if cards else f'<p class="note">{evaluate_words.NO_PATCHES}</p>'
