"""What the tests of evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_suites import make_trio, write_suites

from patchlab.engine import Trio


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """The tiny trio."""
    return make_trio(tmp_path / "patches")


@pytest.fixture
def prompts_folder(tmp_path: Path) -> Path:
    """The folder of the files of prompts."""
    return write_suites(tmp_path / "prompts")
