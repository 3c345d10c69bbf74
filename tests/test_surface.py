"""The names that `import patchlab` promises are exactly the names it has."""

from __future__ import annotations

import ast
import inspect
import tomllib
from pathlib import Path

import pytest

import patchlab


@pytest.mark.parametrize("name", patchlab.__all__)
def test_a_promised_name_is_there(name: str) -> None:
    assert getattr(patchlab, name) is not None
    assert name in dir(patchlab)


def test_no_public_name_is_left_out_of_all() -> None:
    own = {name for name, value in vars(patchlab).items()
           if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith("patchlab")}
    assert own | set(patchlab._ROOMS) | {"__version__"} == set(patchlab.__all__)
    assert sorted(patchlab.__all__) == patchlab.__all__


def test_type_checkers_are_shown_the_names_that_load_late() -> None:
    blocks = [node for node in ast.parse(inspect.getsource(patchlab)).body if isinstance(node, ast.If)]
    shown = {(alias.name, node.module) for block in blocks for node in block.body
             if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert shown == set(patchlab._ROOMS.items())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pach'"):
        _ = patchlab.Pach  # type: ignore[attr-defined]


def test_the_version_has_an_entry_in_the_changelog() -> None:
    root = Path(patchlab.__file__).resolve().parents[1]
    assert f"## [{patchlab.__version__}]" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"], "the version has one home: patchlab.__version__"
