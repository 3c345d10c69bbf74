"""JSON from strangers: one object, no duplicate keys, no NaN, no depth that breaks the parser."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from patchlab.errors import PatchFormatError


def parse_object(data: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object in `data`; `where` names the file in errors.

    Raises PatchFormatError for anything but one strictly written UTF-8 object.
    """
    def refuse(found: str) -> NoReturn:
        raise PatchFormatError(f"{where} {found}", expected="one plain JSON object in UTF-8",
                               do="get the patch again from its vendor")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Of two equal keys some readers keep the first, others the last: two programs would see two patches.
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                refuse(f"has the key {key[:80]!r} twice")
            seen[key] = value
        return seen

    def constant(name: str) -> NoReturn:
        refuse(f"has the number {name}")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError:
        refuse("is not UTF-8")
    except RecursionError:
        refuse("is nested too deeply")
    except ValueError as error:  # JSONDecodeError, and integers too long to convert
        refuse(f"is not JSON ({str(error)[:120]})")
    if not isinstance(value, dict):
        refuse(f"holds a {type(value).__name__}")
    return value
