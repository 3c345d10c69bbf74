"""The fixed answer to a message of someone in danger, as it stands beside the models' replies."""

from __future__ import annotations

from patchlab.scoring.crisis import ANSWER
from patchlab.ui import copy
from patchlab.ui.diff import escaped


def crisis_note() -> str:
    """The answer with its help lines, as HTML."""
    return f'<aside class="crisis" role="alert"><h3>{escaped(copy.CRISIS_TITLE)}</h3><p>{escaped(ANSWER)}</p></aside>'
