"""The house keeps its sizes: short files and functions, one meaning a name, and imports without a cycle.

What exceeds a bound today is listed by name; an entry that is no longer true fails, so the lists only get shorter.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES, FUNCTION_LINES, ALL_LINES = 300, 40, 31_500

# A verb of the command line has the name of what it is about.
SHARED_FILES = {"evaluate.py": {"cli", "evaluation"}, "gate.py": {"cli", "patches"},
                "transfer.py": {"cli", "evaluation"}}
# The same subject on several floors: a value, what computes it, and the verb that asks for it.
SUBJECTS = {"curve.py": {"cli", "patches", "training"}, "gates.py": {"engine", "training"}, "hub.py": {"patches", "scoring"},
            "repair.py": {"cli", "repair"}}


@cache
def trees(*folders: str) -> dict[str, ast.Module]:
    """The parsed files of the folders, by path from the root."""
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def lines(file: str) -> int:
    return len((ROOT / file).read_text(encoding="utf-8").splitlines())


def test_no_file_is_long() -> None:
    assert {file for file in trees("patchlab", "tools", "benchmarks") if lines(file) > FILE_LINES} == set()


def test_no_function_is_long() -> None:
    long = {f"{file}:{node.name}" for file, tree in trees("patchlab", "tools", "benchmarks").items() for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES}
    assert long == set()


def test_the_whole_is_no_larger_than_it_may_be() -> None:
    assert sum(map(lines, trees("patchlab", "tools"))) <= ALL_LINES


def test_a_file_name_is_used_once() -> None:
    where = defaultdict(set)
    for file in map(Path, trees("patchlab")):
        where[file.name].add(str(file.parent.relative_to("patchlab")))
    shared = {name: folders for name, folders in where.items() if len(folders) > 1 and not name.startswith("__")}
    assert shared == SHARED_FILES | SUBJECTS


def test_a_class_name_is_used_once() -> None:
    where = defaultdict(set)
    for file, tree in trees("patchlab").items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].add(file.removeprefix("patchlab/"))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


def name_of(file: str) -> str:
    """The dotted name of a module's file."""
    parts = Path(file).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module, module: str, package: bool, known: set[str]) -> Iterator[str]:
    """The modules of `known` that a module imports, also inside functions and under TYPE_CHECKING.

    `from room import name` is the file of that name if it exists, else the room. Importing a module of another room also imports
    the `__init__` of that room. Only the package's own `__init__` is exempt under TYPE_CHECKING: there it repeats, for type
    checkers, the names that its `__getattr__` loads, and modules below it read its version.
    """
    exempt = {id(inner) for node in ast.walk(tree) if "." not in module and isinstance(node, ast.If)
              and "TYPE_CHECKING" in ast.unparse(node.test) for inner in ast.walk(node)}
    named = set()
    for node in ast.walk(tree):
        if id(node) in exempt:
            continue
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            own = module.split(".") if package else module.split(".")[:-1]
            stem = own[: len(own) - node.level + 1] if node.level else []
            target = ".".join([*stem, *filter(None, [node.module])])
            named |= {full if (full := f"{target}.{alias.name}") in known else target for alias in node.names}
    for name in named:
        parts = name.split(".")
        fronts = {".".join(parts[:end]) for end in range(1, len(parts))}
        yield from (({name} | {front for front in fronts if not f"{module}.".startswith(f"{front}.")}) & known)


def cycle(files: dict[str, ast.Module]) -> list[str]:
    """The modules of a cycle of imports, lazy ones counted, each imported by the one before; nothing where there is none."""
    known = {name_of(file) for file in files}
    graph = {name_of(file): set(imported(tree, name_of(file), file.endswith("__init__.py"), known))
             for file, tree in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_comes_back() -> None:
    assert cycle(trees("patchlab", "tools")) == []


def test_a_cycle_is_found() -> None:
    def made(**sources: str) -> dict[str, ast.Module]:
        return {f"patchlab/{name}.py": ast.parse(source) for name, source in sources.items()}

    assert cycle(made(a="from patchlab import b", b="import os")) == []
    assert cycle(made(a="from patchlab import b", b="def late():\n    from patchlab.a import name"))
    assert cycle(made(a="from . import b", b="import patchlab.c", c="from .a import name"))
    assert cycle(made(a="from patchlab import b", b="if TYPE_CHECKING:\n    from patchlab.a import name"))
    front = {"patchlab/__init__.py": ast.parse("if TYPE_CHECKING:\n    from patchlab.a import name")}
    assert cycle(front | made(a="from patchlab import version")) == []
    shown = {"patchlab/room/__init__.py": ast.parse("from patchlab.room.one import x"),
             "patchlab/room/one.py": ast.parse("from patchlab.room import y")}
    assert cycle(shown)
    behind = {"patchlab/room/__init__.py": ast.parse("from patchlab.other import two"), "patchlab/room/one.py": ast.parse(""),
              "patchlab/other/two.py": ast.parse("import patchlab.room.one")}
    assert cycle(behind)
