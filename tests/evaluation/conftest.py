"""What the tests of evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_suites import make_lab, write_suites
from model_fixtures import _one_thread, llama

from patchlab.engine import Lab

__all__ = ["_one_thread", "llama"]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """The tiny base with its reference."""
    return make_lab(tmp_path / "patches")


@pytest.fixture
def prompts_folder(tmp_path: Path) -> Path:
    """The folder of the files of prompts."""
    return write_suites(tmp_path / "prompts")
