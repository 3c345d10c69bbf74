"""The Compare tab: one prompt, one column a lane, the stack's switches, a verdict in a sentence, and live charts."""

from patchlab.ui.compare.tab import Compare, build

__all__ = ["Compare", "build"]
