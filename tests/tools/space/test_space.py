"""The folder of a Space runs by itself: the page's program starts from it, and its card agrees with the requirements."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.space.__main__ import HOME, main, space


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return space(tmp_path_factory.mktemp("space") / "made")


def test_the_card_names_the_pinned_gradio_and_the_program(folder: Path) -> None:
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert f"gradio=={front['sdk_version']}" in (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert front["sdk"] == "gradio" and (folder / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60, "the Hub's limit"
    [weights] = front["preload_from_hub"]
    assert len(weights.split()) == 2


def test_it_holds_what_the_page_needs_and_opens_on_the_real_model(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.name == "__pycache__" or path.suffix == ".pyc"]
    code = ("import patchlab, patchlab.engine, patchlab.ui.page; from patchlab.models import first_preset; "
            "print(patchlab.__file__, first_preset().name, len(patchlab.load('pocket').planner.installed()))")
    ran = subprocess.run([sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"], cwd=folder,
                         env=os.environ | {"SPACE_ID": "owner/name", "PYTHONPATH": ""}, capture_output=True, text=True,
                         check=False)
    assert ran.returncode == 0, ran.stderr
    where, preset, patches = ran.stdout.split()
    assert Path(where).is_relative_to(folder) and preset == "smollm2" and int(patches) == 3


def test_a_full_folder_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    assert main([str(folder)]) == 1
    assert "is not empty" in capsys.readouterr().err and sorted(folder.rglob("*")) == before


def test_the_container_copies_files_that_are_there() -> None:
    lines = (HOME / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1] if not name.startswith("--")]
    assert copied and all((HOME / name).exists() for name in copied)
    assert "USER app" in lines and lines.index("USER app") < next(k for k, line in enumerate(lines) if line.startswith("CMD"))
