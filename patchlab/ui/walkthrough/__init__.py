"""The walkthrough: what a patch is and what it costs, in seven steps of recorded runs."""

from patchlab.ui.walkthrough.frame import build
from patchlab.ui.walkthrough.slides import RecordedRun, Said, Step, Walkthrough, read_walkthrough, rendered

__all__ = ["RecordedRun", "Said", "Step", "Walkthrough", "build", "read_walkthrough", "rendered"]
