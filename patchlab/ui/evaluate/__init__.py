"""The Evaluate tab: what was measured of the patches, what each strength does, and how patches get on with each other."""

from patchlab.ui.evaluate.evaluate_tab import EvaluateTab, build

__all__ = ["EvaluateTab", "build"]
