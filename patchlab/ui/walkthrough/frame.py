"""The Walkthrough tab: the recorded steps as they are in the file that can be kept."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.storage import ASSETS
from patchlab.ui import copy
from patchlab.ui.diff import escaped
from patchlab.ui.walkthrough.slides import read_walkthrough, rendered

if TYPE_CHECKING:
    from patchlab.engine import Lab

RECORDED = ASSETS / "walkthrough" / "smollm2.json"


class WalkthroughTab:
    """A tab without runs of its own."""

    def leave(self, request: gr.Request) -> None:
        """Nothing goes on for a visitor who closes the page."""


def build(lab: Lab, scorers: Sequence[Any], signals: dict[str, Event] | None = None) -> WalkthroughTab:
    """Place the steps in the open Blocks, and a link that keeps them as one file."""
    recorded = read_walkthrough(RECORDED)
    kept = base64.b64encode(rendered(recorded, live=False).encode()).decode()
    links = (f'<a href="?view=walkthrough">{escaped(copy.WALKTHROUGH_FULL)}</a> · <a download="patchlab-walkthrough.html" '
             f'href="data:text/html;base64,{kept}">{escaped(copy.WALKTHROUGH_KEEP)}</a>')
    gr.HTML(f'<p class="note">{escaped(copy.WALKTHROUGH_NOTE)} {links}</p><iframe id="walkthrough" '
            f'title="{escaped(copy.WALKTHROUGH_TITLE)}" srcdoc="{escaped(rendered(recorded, live=True))}"></iframe>',
            apply_default_css=False, elem_classes=["walkthrough"])
    return WalkthroughTab()
