"""Builders of small patches and of sealed manifests, for the tests of this room."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from patchlab.patches import Manifest, Patch


def make_patch(manifest: Manifest, *, seed: int = 0) -> Patch:
    """A patch with seeded random numbers in the shape the manifest says."""
    shape = (manifest.length, manifest.width)
    return Patch(manifest, np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def write_sealed(folder: Path, text: str) -> None:
    """Write `text` as patch.json with its own digest in place of the 64 zeros."""
    seal = hashlib.sha256(text.encode()).hexdigest()
    (folder / "patch.json").write_text(text.replace("0" * 64, seal), encoding="utf-8")
