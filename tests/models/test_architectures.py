"""The page about architectures has the families and laws that code and tests have."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import patchlab
from patchlab.models.architectures import TESTED

ROOT = Path(patchlab.__file__).resolve().parents[1]


def test_the_page_has_every_family_and_law_and_each_holds() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_architectures.py"))
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    rows = {family: cells.split(" | ") for family, cells in re.findall(r"^\| (\w+) \| (.+) \|$", page, re.M)}
    assert list(rows) == ["family", *TESTED], "run python docs/make_architectures.py"
    assert re.findall(r"^\d+\. (.+)$", page, re.M) == list(made["LAWS"].values())
    for cells in list(rows.values())[1:]:
        assert len(cells) == len(made["LAWS"]) and set(cells) <= {made["HOLDS"], made["NONE"]}


def test_every_law_of_the_page_is_a_test() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_architectures.py"))
    source = "".join(file.read_text(encoding="utf-8") for folder in made["TESTS"] for file in folder.glob("test_*.py"))
    assert all(f"def {law}(" in source for law in made["LAWS"])
