"""The page's tests run on the models that come with the project."""

from __future__ import annotations

import pytest

from patchlab.engine import Trio, load_trio
from patchlab.scoring.table import Scorer, load_scorer


@pytest.fixture(scope="session")
def trio() -> Trio:
    """The shipped pocket preset."""
    return load_trio("pocket")


@pytest.fixture(scope="session")
def scorers() -> list[Scorer]:
    """The two judges the page shows."""
    return [load_scorer("toxicity"), load_scorer("refusal")]
