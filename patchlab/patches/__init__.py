"""Layer 1: patches, with their manifest, prefix and folder on disk, and stacks of patches. Loads no model library."""

from __future__ import annotations

from patchlab.patches.curve import Curve, Point
from patchlab.patches.folder import read_manifest
from patchlab.patches.gate import Gate
from patchlab.patches.manifest import BaseIdentity, Manifest
from patchlab.patches.patch import Patch
from patchlab.patches.stack import Entry, Mode, Stack

__all__ = ["BaseIdentity", "Curve", "Entry", "Gate", "Manifest", "Mode", "Patch", "Point", "Stack", "read_manifest"]
