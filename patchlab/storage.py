"""Files and folders that are whole or absent: atomic writes, locks, and JSON Lines that name the line that is wrong. Layer 0."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from patchlab.errors import BusyError, InputError, PatchLabError

T = TypeVar("T")
MAX_ROW = 4 * 2**20  # bytes of one line of JSON Lines
_TRIES, _PAUSE = 200, 0.005  # how often, and after how many seconds, a folder that is being replaced is read again

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
    write_text(path, lines.encode("utf-8", "backslashreplace").decode("utf-8"))  # half a surrogate pair has an escape only


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, with or without a byte-order mark.

    Raises InputError with the number of the line that is wrong; a line of more than 4 MiB is wrong before it is read whole.
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
    """The JSON object in `line`, without a key that is there twice. Raises InputError; its text begins with `where`."""
    expected, do = "one JSON object", "fix that row"
    if len(line) > MAX_ROW:
        raise InputError(f"{where}has more than {MAX_ROW} bytes", expected=f"at most {MAX_ROW}", do="shorten that row")
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise InputError(f"{where}is not UTF-8", expected="UTF-8 text", do="convert the file") from None
    except (ValueError, RecursionError) as error:  # a syntax error, a number or a nesting beyond reason
        reason = getattr(error, "msg", str(error).split(";")[0])
        raise InputError(f"{where}is not JSON ({reason})", expected=expected, do=do) from None
    if not isinstance(row, dict):
        raise InputError(f"{where}is not an object", expected=expected, do=do)
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # which of two equal keys counts, programs do not agree on
        raise ValueError("a key that is there twice")
    return found


@contextmanager
def locked(path: Path, *, seconds: float = 60) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it, which every process that changes it waits for. Raises BusyError."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=seconds):
            yield
    except Timeout:
        raise BusyError(f"{path} is being changed by another process for over {seconds:g} s", expected="a free file",
                        do="try again when the other process is done") from None


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Make `folder` hold exactly `files`, in one step: written beside it, then exchanged with what is there. Returns `folder`.

    Where the system cannot exchange two names the old folder is moved aside first, and back if the new one cannot take its
    place. Whatever fails, the old folder is kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    fresh, old = workshop / "fresh", workshop / "old"
    try:
        fresh.mkdir()
        for name, data in files.items():
            with (fresh / name).open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
        _place(fresh, folder, aside=old)
    finally:
        if folder.exists() or not old.exists():
            shutil.rmtree(workshop, ignore_errors=True)
    return folder


def _place(fresh: Path, folder: Path, *, aside: Path) -> None:
    if not folder.exists():
        try:
            fresh.rename(folder)
            return
        except OSError:
            if not folder.exists():  # otherwise another process has made it in this moment
                raise
    if _exchanged(fresh, folder):
        return
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError as error:
        try:
            aside.rename(folder)
        except OSError:
            raise InputError(f"{folder} could neither be replaced nor restored ({error})", expected="a folder that can be "
                             "renamed", do=f"move {aside} back to {folder}") from None
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step, which Linux can on most file systems."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def read_steady(folder: Path, read: Callable[[Path], T]) -> T:
    """What `read` finds in `folder`, of one version only, though `write_folder` may replace it meanwhile.

    What was read, or failed to be, is taken only if the folder is still the same one; otherwise it is read again.
    """
    for last in (*[False] * _TRIES, True):
        before = identity(folder)
        try:
            found = read(folder)
        except (PatchLabError, OSError):
            if last or (identity(folder) == before and not (before is None and _aside(folder))):
                raise
        else:
            if last or identity(folder) == before:
                return found
        time.sleep(_PAUSE)
    raise AssertionError("the last try returns or raises")


def identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file or folder is replaced or edited: device, number, time and size; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _aside(folder: Path) -> bool:
    """Whether a folder that is not there has been moved aside, to be replaced in a moment."""
    return any(folder.parent.glob(f".{glob.escape(folder.name)}.*/old"))


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hex."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
