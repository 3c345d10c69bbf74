"""Repair of a backdoored model from one failure: which words of the prompt caused the reply, and a change that undoes it.

Patcher (arXiv 2606.02995) is the baseline. `localize` finds the trigger, `repair` trains against it. Layer 6.
"""

from patchlab.repair.failures import Failure, Word
from patchlab.repair.localize import METHODS, Located, locate
from patchlab.repair.repair import Repair, repair_steps

__all__ = ["METHODS", "Failure", "Located", "Repair", "Word", "locate", "repair_steps"]
