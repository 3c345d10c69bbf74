"""Files that are whole or absent: atomic writes, and JSON Lines that name the line that is wrong. Layer 0."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from patchlab.errors import InputError

_PACKAGE = Path(__file__).resolve().parent
# what ships: inside the package where a wheel was installed, beside it in a checkout
ASSETS = next((folder for folder in (_PACKAGE / "assets", _PACKAGE.parent / "assets") if folder.is_dir()), _PACKAGE / "assets")


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary neighbour of `path`, then move it into place: readers see old or new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as done:
            os.fsync(done.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp and safetensors write 0600, which others cannot read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a closing newline, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `rows`, one JSON object a line, atomically."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, lines.encode("utf-8", "replace").decode("utf-8"))  # half a surrogate pair has no bytes


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file. Raises InputError with the number of the line that is wrong."""
    if not path.is_file():
        raise InputError(f"no file {path}", expected="a JSON Lines file", do="check the path")
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:  # a syntax error, a number or a nesting beyond reason
                    reason = getattr(error, "msg", str(error).split(";")[0])
                    raise InputError(f"{path} line {number} is not JSON ({reason})",
                                     expected="one JSON object a line", do="fix that line") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path} line {number} is not an object",
                                     expected="one JSON object a line", do="fix that line")
                yield row
        except UnicodeDecodeError:
            raise InputError(f"{path} is not UTF-8", expected="UTF-8 text", do="convert the file") from None


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hex."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
