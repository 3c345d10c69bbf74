"""Every public name has an example in docs/python.md, and the examples run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import patchlab

PAGE = (Path(patchlab.__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")


def test_every_public_name_has_a_section() -> None:
    named = {name for heading in re.findall(r"^## (.+)$", PAGE, re.M) for name in re.findall(r"`(\w+)`", heading)}
    assert named == set(patchlab.__all__) - {"__version__"}
    assert all(getattr(patchlab, name).__doc__ for name in named)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE, re.S)):
        exec(compile(block, f"docs/python.md, example {number + 1}", "exec"), session)
        assert capsys.readouterr().out.strip(), f"example {number + 1} prints nothing"
    assert (tmp_path / "my-patches" / "refusal-1.0.0" / "patch.json").is_file()
