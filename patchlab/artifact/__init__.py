"""What a patch is: manifest, prefix and folder on disk; stacks of patches; the registry that holds them.

No models here: numpy and safetensors are all that importing it loads.
"""

from __future__ import annotations

from patchlab.artifact.curve import Curve, Point
from patchlab.artifact.gate import Gate
from patchlab.artifact.manifest import BaseIdentity, Manifest
from patchlab.artifact.patch import Patch, load_patch, read_manifest, save_patch
from patchlab.artifact.registry import Installed, Registry, default_registry, install
from patchlab.artifact.stack import Entry, Mode, Stack

__all__ = [
    "BaseIdentity",
    "Curve",
    "Entry",
    "Gate",
    "Installed",
    "Manifest",
    "Mode",
    "Patch",
    "Point",
    "Registry",
    "Stack",
    "default_registry",
    "install",
    "load_patch",
    "read_manifest",
    "save_patch",
]
