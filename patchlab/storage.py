"""Atomic writes of files and folders, file locks, and JSON Lines with errors that name the line. Layer 0."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from patchlab.errors import BusyError, InputError, PatchLabError

T = TypeVar("T")
MAX_ROW = 4 * 2**20  # maximum bytes of one line of JSON Lines
_TRIES, _PAUSE = 200, 0.005  # reads of a folder that is being replaced, and seconds between them

_PACKAGE = Path(__file__).resolve().parent
# the files that ship with PatchLab: inside an installed package, beside it in a checkout
ASSETS = next((folder for folder in (_PACKAGE / "assets", _PACKAGE.parent / "assets") if folder.is_dir()), _PACKAGE / "assets")


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then rename the result to `path`: readers see the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp and safetensors set 0600
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `rows` as JSON Lines, atomically."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, lines.encode("utf-8", "backslashreplace").decode("utf-8"))  # half a surrogate pair has an escape only


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, with or without a byte-order mark.

    Raises InputError with the number of an invalid line; of a line over 4 MiB only the first 4 MiB are read.
    """
    if not path.is_file():
        raise InputError(f"no file {path}", expected="a JSON Lines file", do="check the path")
    with path.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_ROW + 1):
            number += 1
            if row := line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip():
                yield parse_row(row, f"{path} line {number} ")


def parse_row(line: bytes, where: str = "") -> dict[str, Any]:
    """Parse the JSON object in `line`. Raises InputError, whose message begins with `where`."""
    if len(line) > MAX_ROW:
        raise InputError(f"{where}has more than {MAX_ROW} bytes", expected=f"at most {MAX_ROW}", do="shorten that row")
    try:
        return json_object(line)
    except ValueError as error:
        raise InputError(f"{where}{error}", expected="one JSON object in UTF-8", do="correct that row") from None


def json_object(data: bytes, *, nan: bool = True) -> dict[str, Any]:
    """Parse one JSON object. Raises ValueError with the reason, such as "is not UTF-8".

    Duplicate keys, of which some parsers keep the first and others the last, and numbers too large for 64 bits are refused, and
    with `nan=False` also NaN and Infinity.
    """
    problems: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            problems.append(f"has the key {key[:80]!r} twice")
        return result

    def constant(name: str) -> float:
        if not nan:
            problems.append(f"has the number {name}")
        return float(name)

    def finite(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            problems.append(f"has the number {digits[:40]}, which is too large")
        return number

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant, parse_float=finite)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:  # a syntax error, or an integer too long to convert
        raise ValueError(f"is not JSON ({str(error)[:120]})") from None
    if problems or not isinstance(value, dict):
        raise ValueError(problems[0] if problems else f"is not an object but a {type(value).__name__}")
    return value


@contextmanager
def locked(path: Path, *, seconds: float = 60) -> Iterator[None]:
    """Hold the lock file beside `path`, for which other processes wait. Raises BusyError after `seconds`."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=seconds):
            yield
    except Timeout:
        raise BusyError(f"{path} is being changed by another process for over {seconds:g} s", expected="an unlocked file",
                        do="try again when the other process has finished") from None


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Make `folder` hold exactly `files`, atomically, and return it.

    The new folder is written beside it and the two names are exchanged. On systems that cannot do so the old folder is renamed
    first, and renamed back if the new one cannot replace it. After any failure the old folder still exists.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    new, old = temporary / "new", temporary / "old"
    try:
        new.mkdir()
        for name, data in files.items():
            with (new / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _replace(new, folder, aside=old)
    finally:
        if folder.exists() or not old.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _replace(new: Path, folder: Path, *, aside: Path) -> None:
    if not folder.exists():
        try:
            new.rename(folder)
            return
        except OSError:
            if not folder.exists():  # otherwise another process has created it meanwhile
                raise
    if _exchanged(new, folder):
        return
    folder.rename(aside)
    try:
        new.rename(folder)
    except OSError as error:
        try:
            aside.rename(folder)
        except OSError:
            raise InputError(f"{folder} could neither be replaced nor restored ({error})", expected="a folder that can be "
                             "renamed", do=f"rename {aside} to {folder}") from None
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names atomically and return whether it worked; Linux can on most file systems."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    return bool(rename(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0)


def read_steady(folder: Path, read: Callable[[Path], T]) -> T:
    """Return `read(folder)` for one version of the folder, though `write_folder` may replace it meanwhile.

    A result or an error only counts if the folder is still the same one afterwards; otherwise it is read again.
    """
    for last in (*[False] * _TRIES, True):
        before = identity(folder)
        try:
            result = read(folder)
        except (PatchLabError, OSError):
            # looked at once more last: the new one may have come just before it was seen that the old one is not aside
            if last or (identity(folder) == before and not (before is None and _aside(folder)) and identity(folder) == before):
                raise
        else:
            if last or identity(folder) == before:
                return result
        time.sleep(_PAUSE)
    raise AssertionError("the last iteration returns or raises")


def identity(path: Path) -> tuple[int, ...] | None:
    """Device, inode, modification time and size, which change when a file or folder is replaced; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _aside(folder: Path) -> bool:
    """Whether `write_folder` has renamed a folder and not yet put the new one in its place."""
    return any(folder.parent.glob(f".{glob.escape(folder.name)}.*/old"))


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
