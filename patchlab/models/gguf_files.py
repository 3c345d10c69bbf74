"""The architecture that a GGUF file names, read from its header without the package gguf and before anything is loaded.

The header is: "GGUF", version (u32), number of tensors (u64), number of fields (u64), then the fields: key, type (u32), value.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from patchlab.errors import ModelError

KEY = b"general.architecture"
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of the scalar types
TEXT, ARRAY = 8, 9
MOST_FIELDS, LONGEST = 4096, 1 << 16  # the field is among the first ones, and no key or name is longer


def architecture_of(path: Path) -> str:
    """The architecture of a GGUF file, such as "llama". Raises ModelError for a file that is not GGUF or does not name one."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError("does not begin with GGUF")
            version, _, fields = struct.unpack("<IQQ", _read(file, 20))
            if version not in (2, 3):
                raise ValueError(f"GGUF version {version}, expected 2 or 3")
            for _ in range(min(fields, MOST_FIELDS)):
                key, kind = _text(file), _number(file, 4)
                if key == KEY and kind == TEXT:
                    return _text(file).decode("utf-8", "replace")
                _skip(file, kind)
            raise ValueError("no field general.architecture")
    except ValueError as error:
        raise ModelError(f"model {path.name[:200]!r} cannot be loaded ({error})", expected="a whole GGUF file, version 2 or 3",
                         do="download the file again") from None


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it is cut off")
    return data


def _number(file: BinaryIO, width: int) -> int:
    return int.from_bytes(_read(file, width), "little")


def _text(file: BinaryIO) -> bytes:
    length = _number(file, 8)
    if length > LONGEST:
        raise ValueError(f"a text of {length} bytes in its header")
    return _read(file, length)


def _skip(file: BinaryIO, kind: int) -> None:
    """Skip a value before the architecture; arrays of texts only follow it."""
    if kind == TEXT:
        file.seek(_number(file, 8), 1)
    elif kind == ARRAY:
        inner, count = _number(file, 4), _number(file, 8)
        if inner not in WIDTHS:
            raise ValueError("no field general.architecture before its tokens")
        file.seek(WIDTHS[inner] * count, 1)
    elif kind in WIDTHS:
        file.seek(WIDTHS[kind], 1)
    else:
        raise ValueError(f"a field of type {kind}")
