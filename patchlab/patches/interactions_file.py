"""interactions.json: where it lies, how it is written, and how it is read with suspicion.

The file lies among the folders of patches, which are the only things that a registry looks at there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from patchlab.errors import PatchFormatError
from patchlab.patches.interactions import Cell, Change, Interactions, Row
from patchlab.patches.strict_json import parse_object
from patchlab.registry.index import PATCHES, Installed, Registry, home_folder
from patchlab.storage import write_text

FILE = "interactions.json"
SCHEMA = 1
MAX_BYTES = 64 * 2**20


def place_of(installed: Iterable[Installed]) -> Path:
    """Where the interactions of these patches belong: beside them where they lie together, else in the home folder."""
    folders = {one.folder.parent for one in installed}
    return (folders.pop() if len(folders) == 1 else home_folder() / PATCHES) / FILE


def save_interactions(interactions: Interactions, path: Path) -> None:
    """Write the file, atomically, a row a line."""
    patches = json.dumps(dict(interactions.patches), indent=2).replace("\n", "\n ")
    rows = ",\n  ".join(json.dumps(_row(row), ensure_ascii=False, allow_nan=False) for row in interactions.rows)
    write_text(path, f'{{\n "schema": {SCHEMA},\n "patches": {patches},\n "rows": [\n  {rows}\n ]\n}}\n')


def load_interactions(path: Path) -> Interactions:
    """The interactions in a file, checked whole. Raises PatchFormatError for anything else."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise PatchFormatError(f"{path} is no file of at most {MAX_BYTES} bytes", expected="what patchlab patches matrix wrote",
                               do="measure again with `patchlab patches matrix`")
    value = parse_object(path.read_bytes(), where=str(path))
    if type(value.get("schema")) is not int or value["schema"] != SCHEMA:
        raise PatchFormatError(f"{path} has schema {str(value.get('schema'))[:80]!r}", expected=f"schema {SCHEMA}",
                               do="update PatchLab, or measure again with `patchlab patches matrix`")
    try:
        _keys(value, {"schema", "patches", "rows"})
        return Interactions(tuple(map(_read_row, _list(value["rows"]))), value["patches"])
    except PatchFormatError as error:
        raise PatchFormatError(f"{path}: {error.found}", expected=error.expected, do=error.do) from None


def find_interactions(registry: Registry) -> tuple[Interactions, list[str]]:
    """The fresh rows of all files beside the registry's patches, and why a file cannot be used."""
    found, broken = Interactions(), []
    manifests = [one.manifest for one in registry.list()]
    for folder in registry.folders:
        path = folder / FILE
        if not path.exists():
            continue
        try:
            found = found.joined(load_interactions(path).fresh(manifests))
        except (PatchFormatError, OSError) as error:
            broken.append(f"{path} cannot be used: {error}")
    return found, broken


def _row(row: Row) -> dict[str, Any]:
    return {"base": row.base, "stack": list(row.stack), "mode": row.mode, "settings": dict(row.settings),
            "cells": [cell_to_json(cell) for cell in row.cells]}


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """A cell as plain JSON values; None for a number that there is not."""
    found = {f.name: _number(getattr(cell, f.name)) for f in fields(Cell)} | {"values": list(cell.values)}
    if cell.change:
        change = {f.name: _number(getattr(cell.change, f.name)) for f in fields(Change)}
        found["change"] = change | {"against": list(cell.change.against)}
    return found


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_row(value: object) -> Row:
    row = _keys(value, {f.name for f in fields(Row)})
    cells = tuple(map(_read_cell, _list(row["cells"])))
    return Row(**row | {"stack": tuple(_list(row["stack"])), "cells": cells})


def _read_cell(value: object) -> Cell:
    cell = _figure(_keys(value, {f.name for f in fields(Cell)}))
    if cell["change"] is not None:
        change = _figure(_keys(cell["change"], {f.name for f in fields(Change)}))
        cell["change"] = Change(**change | {"against": tuple(_list(change["against"]))})
    return Cell(**cell | {"values": tuple(_list(cell["values"]))})


def _figure(value: dict[str, Any]) -> dict[str, Any]:
    return value | {name: math.nan if value[name] is None else value[name] for name in ("value", "low", "high")}


def _keys(value: object, wanted: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != wanted:
        got = ", ".join(sorted(value))[:200] if isinstance(value, dict) else type(value).__name__
        raise PatchFormatError(f"an entry with {got or 'no keys'}", expected=f"the keys {', '.join(sorted(wanted))}",
                               do="measure again with `patchlab patches matrix`")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or any(isinstance(each, list) for each in value):
        raise PatchFormatError(f"a {type(value).__name__}", expected="a plain list",
                               do="measure again with `patchlab patches matrix`")
    return value
