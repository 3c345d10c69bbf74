"""The line that says what a run is doing."""

from __future__ import annotations

import itertools

from patchlab.ui.diff import escaped

_shown = itertools.count()


def status(words: str, *, problem: bool = False) -> str:
    """The status line; a problem interrupts a screen reader, anything else waits its turn.

    The number makes every line new to gradio, which would otherwise not replace what the browser wrote in between.
    """
    role = "alert" if problem else "status"
    return f'<p class="status {role}" role="{role}" data-number="{next(_shown)}">{escaped(words)}</p>'
