"""Small made patches, one of them saved, and a forger."""

from __future__ import annotations

from pathlib import Path

import pytest
from patch_fixtures import forge, manifest, patch, place

from patchlab.patches import Patch

__all__ = ["forge", "manifest", "patch", "place"]


@pytest.fixture
def folder(patch: Patch, tmp_path: Path) -> Path:
    """A saved patch."""
    return patch.save_pretrained(tmp_path / "toxicity-1.0.0")
