"""The house has one direction: every import goes down, and each large library has its one room."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "patchlab"

LAYERS = {
    **dict.fromkeys(["errors", "records", "rows", "storage", "validation"], 0),
    **dict.fromkeys(["patches", "scoring"], 1),
    **dict.fromkeys(["registry", "models"], 2),
    "engine": 3,
    "evaluation": 4,
    **dict.fromkeys(["training", "serving"], 5),
    "repair": 6,  # trains with the losses and prefixes of training
    **dict.fromkeys(["cli", "ui", "long_work"], 7),
    **dict.fromkeys(["__init__", "__main__"], 8),  # fronts that show every room, so no room may look back
}
# Library -> the folders or files that may import it; "lazily" means inside functions only.
OWNERS = {
    "gradio": {"ui": "anywhere"},
    # the report is a file of its own, made without the page and for the command line too; it takes plotly.js only
    "plotly": {"ui": "anywhere", "evaluation/report/html.py": "lazily"},
    "transformers": {"models": "anywhere", "engine": "anywhere", "scoring/hub.py": "lazily",
                     "scoring/sentence_encoder.py": "lazily"},
    "torch": {
        **dict.fromkeys(["models", "engine", "evaluation", "training", "repair", "serving", "ui"], "anywhere"),
        **dict.fromkeys(["scoring/hub.py", "scoring/sentence_encoder.py"], "lazily"),
    },
}
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}


class Import(NamedTuple):
    """One imported module: where, what, and whether only when something runs."""

    line: int
    target: str
    lazy: bool


def named_module(call: ast.Call) -> str | None:
    """The module that a call of import_module or __import__ names outright, else None."""
    importing = ast.unparse(call.func).split(".")[-1] in {"import_module", "__import__"}
    literal = importing and call.args and isinstance(call.args[0], ast.Constant)
    return str(call.args[0].value) if literal else None


def imports(source: str, module: str) -> Iterator[Import]:
    """Yield every import of `source`, relative ones resolved from the dotted `module` they stand in.

    `from patchlab import storage` gives `patchlab.storage`. A call of import_module with a literal counts too.
    """

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(child.lineno, alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                stem = module.split(".")[: -child.level] if child.level else []
                target = ".".join([*stem, *filter(None, [child.module])])
                if target == "patchlab":
                    yield from (Import(child.lineno, f"patchlab.{alias.name}", lazy) for alias in child.names)
                else:
                    yield Import(child.lineno, target, lazy)
            elif isinstance(child, ast.Call) and (named := named_module(child)):
                yield Import(child.lineno, named, lazy)
            typing_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, lazy or function or typing_only)

    yield from walk(ast.parse(source), False)


def allowed(file: PurePosixPath, library: str, lazy: bool) -> bool:
    """Whether `file` may import `library`; libraries that nobody owns are free."""
    owners = OWNERS.get(library)
    if owners is None:
        return True
    where = owners.get(str(file)) or owners.get(file.parts[0])
    return where == "anywhere" or (where == "lazily" and lazy)


def violations(file: PurePosixPath, source: str) -> list[str]:
    """What is wrong with a file of the package, given its path inside it and its text."""
    room = file.with_suffix("").parts[0]
    if room not in LAYERS:
        return [f"{file}: room {room!r} has no layer; give it one"]
    found = [f"{file}: {part!r} says nothing about what is inside" for part in file.with_suffix("").parts
             if part in VAGUE]
    for line, target, lazy in imports(source, ".".join(["patchlab", *file.with_suffix("").parts])):
        library, *inner = target.split(".")
        if library != "patchlab":
            if not allowed(file, library, lazy):
                found.append(f"{file}:{line}: {library} is not for this file")
            continue
        if inner == ["__version__"]:  # a plain value, there before any room loads
            continue
        other = inner[0] if inner else "__init__"
        if other not in LAYERS:
            found.append(f"{file}:{line}: {target} has no layer: import names from the room that makes them")
        elif other != room and LAYERS[other] >= LAYERS[room] and not LAYERS[other] == LAYERS[room] == 0:
            found.append(f"{file}:{line}: layer {LAYERS[room]} imports {target} of layer {LAYERS[other]}")
    return found


def test_every_import_of_the_package_goes_down() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 3
    found = []
    for file in files:
        found += violations(PurePosixPath(file.relative_to(PACKAGE)), file.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("engine/segments.py", "from patchlab.ui import page"),
        ("engine/segments.py", "def late():\n    import patchlab.evaluation.suites"),
        ("patches/stack.py", "from patchlab.scoring import load_scorer"),
        ("scoring/table.py", "from patchlab import patches"),
        ("scoring/table.py", "from ..patches import Patch"),
        ("cli/app.py", "from patchlab.ui import build"),
        ("ui/page.py", "if True:\n    from patchlab.cli import main"),
        ("training/dpo.py", "from patchlab import Prompt"),
        ("training/dpo.py", "import patchlab"),
        ("errors.py", "from patchlab.patches import Patch"),
        ("cli/app.py", "def start():\n    import gradio"),
        ("evaluation/report/markdown.py", "import plotly.graph_objects as go"),
        ("evaluation/report/html.py", "import plotly"),
        ("evaluation/metrics.py", "from transformers import AutoTokenizer"),
        ("scoring/hub.py", "import transformers"),
        ("scoring/embedded.py", "def late():\n    import torch"),
        ("patches/patch.py", "import torch.nn"),
        ("cli.py", "import importlib\nimportlib.import_module('gradio')"),
        ("cli/make.py", "def train():\n    import torch"),
        ("engine/utils.py", ""),
        ("common/names.py", ""),
    ],
)
def test_a_wrong_import_is_seen(file: str, source: str) -> None:
    assert violations(PurePosixPath(file), source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("storage.py", "from patchlab.errors import InputError"),
        ("engine/segments.py", "import torch\nfrom .stream import Stream\nfrom patchlab.patches import Patch"),
        ("engine/segments.py", "from patchlab import patches, errors"),
        ("scoring/hub.py", "def late():\n    import torch, transformers"),
        ("ui/charts.py", "import plotly.graph_objects as go\nfrom patchlab.records import Report"),
        ("__init__.py", "from patchlab.records import Prompt"),
        ("cli/shell.py", "from patchlab import __version__"),
    ],
)
def test_a_right_import_is_left_alone(file: str, source: str) -> None:
    assert violations(PurePosixPath(file), source) == []


@pytest.mark.parametrize("modules", [["patchlab"], ["patchlab", "patchlab.patches", "patchlab.scoring"]],
                         ids=["package", "rooms"])
def test_importing_is_light(modules: list[str]) -> None:
    code = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert set(modules) <= loaded
    assert loaded.isdisjoint({"torch", "gradio", "transformers", "plotly", "sklearn"})
