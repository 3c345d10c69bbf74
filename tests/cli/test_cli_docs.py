"""The page about the command line says what the command line says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import patchlab

DOCS = Path(patchlab.__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("columns", ["40", "200", ""])
def test_the_page_is_in_step_whatever_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    made = runpy.run_path(str(DOCS / "make_cli.py"))
    assert made["page"]() == (DOCS / "cli.md").read_text(encoding="utf-8"), "run python docs/make_cli.py"
