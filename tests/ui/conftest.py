"""The page's tests run on the models that come with the project, and in the Chromium of this computer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from made_visit import served
from playwright.sync_api import Browser, sync_playwright

from patchlab.engine import Lab, load
from patchlab.scoring.table import Scorer, load_scorer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The shipped pocket preset."""
    return load("pocket")


@pytest.fixture(scope="session")
def scorers() -> list[Scorer]:
    """The two judges the page shows."""
    return [load_scorer("toxicity"), load_scorer("refusal")]


@pytest.fixture(scope="session")
def address(lab: Lab) -> Iterator[str]:
    """A real server of the shipped models."""
    with served(lab) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of this computer."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("needs a Chromium browser")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()
