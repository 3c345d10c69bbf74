"""What an installation promises: ranges that hold the tested pins, extras, and a wheel with every package and asset."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
RANGES = [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]


def pins(name: str) -> dict[str, str]:
    """The exact versions of a requirements file, in its order."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("-"))


APP, DEV, MODELS = pins("requirements.txt"), pins("requirements-dev.txt"), pins("requirements-models.txt")


@pytest.mark.parametrize("text", sorted(set(RANGES)))
def test_a_range_begins_at_the_tested_version(text: str) -> None:
    wanted = Requirement(text)
    bounds = {each.operator: Version(each.version) for each in wanted.specifier}
    assert set(bounds) == {">=", "<"}
    tested = (APP | DEV | MODELS).get(wanted.name)
    if tested is None:
        assert wanted.name == "lm-eval", "whose tests are skipped where they are not installed"
        return
    assert wanted.specifier.contains(tested)
    assert Version(tested).release[:2] == bounds[">="].release[:2], "a version that no test ran with"


def test_the_app_pins_what_the_package_and_its_page_need() -> None:
    assert set(APP) == {Requirement(each).name for each in (*PROJECT["dependencies"], *EXTRAS["app"])}
    assert next(iter(APP)) == "torch", "asked for with the rest it may resolve to a larger accelerator build"


def test_every_library_that_the_package_imports_is_promised() -> None:
    promised = {Requirement(each).name for each in RANGES}
    names = {"pydantic_core": "pydantic", "yaml": "pyyaml", "lm_eval": "lm-eval", "sklearn": "scikit-learn"}
    known = {"patchlab", "spaces", *sys.stdlib_module_names}  # spaces: there on Spaces only
    for file in (ROOT / "patchlab").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
            for library in {module.split(".")[0] for module in modules} - known:
                assert names.get(library, library) in promised, f"{file.relative_to(ROOT)} imports {library}"


def test_every_folder_of_the_package_is_a_package_of_the_wheel() -> None:
    for folder in {path.parent for path in (ROOT / "patchlab").rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), f"setup.py does not find {folder.relative_to(ROOT)}"
    assert (ROOT / "patchlab" / "py.typed").is_file()


def test_the_packages_of_weights_are_those_that_errors_name() -> None:
    from patchlab.models.open_weights import SMOLLM2
    from patchlab.models.sources import GGUF
    from patchlab.scoring.sentence_encoder import PIP

    named = {*SMOLLM2.pip.split(), *PIP.split(), GGUF}
    assert {f"{name}=={version}" for name, version in MODELS.items()} == {word for word in named if "==" in word}
    assert all(DEV.get(name, version) == version for name, version in MODELS.items())
