"""An uploaded patch: a zip of its folder, or its files. It is hostile until `registry.install` has checked it.

Nothing of an archive decides where anything is written: only files with the names of a patch's files are read, from one folder of
the archive, up to the size that each may have, into a temporary folder.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from patchlab.errors import InputError, PatchFormatError
from patchlab.patches.card import model_card
from patchlab.patches.folder import CAPS, KNOWN, adapter_config, to_bytes
from patchlab.patches.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, Manifest

MAX_FILES = 64  # of an archive
MAX_UNPACKED = 16 * 2**20  # bytes of all files together: uploads are smaller, and tensors hardly get smaller by packing
SUFFIXES = (".zip", ".safetensors", ".json", ".md", ".sig")
_IGNORED = (".DS_Store", "Thumbs.db")  # what desktops add to an archive
_AGAIN = "pack the patch's own folder again, or get the patch from its vendor"
_CONTENTS = f"the files of one patch folder, such as {MANIFEST_FILE}"


@contextmanager
def unpacked(uploads: Sequence[Path]) -> Iterator[Path]:
    """A temporary folder with the files of an uploaded patch. Raises InputError without one, PatchFormatError."""
    if not uploads:
        raise InputError("no file", expected="a .zip of a patch folder, or its files", do="choose one")
    packed = [path for path in uploads if path.suffix.lower() == ".zip"]
    if packed and len(uploads) > 1:
        raise InputError(f"{len(uploads)} files with a .zip among them", expected="one .zip, or the files of one patch",
                         do="upload one patch at a time")
    files = of_zip(packed[0]) if packed else loose(uploads)
    with tempfile.TemporaryDirectory(prefix="patchlab-upload-") as place:
        folder = Path(place) / "upload"
        folder.mkdir()
        for name, data in completed(files).items():
            (folder / name).write_bytes(data)
        yield folder


def of_zip(path: Path) -> dict[str, bytes]:
    """The files of the patch in an archive, by name. Raises PatchFormatError for any archive that holds anything else."""
    try:
        with ZipFile(path) as archive:
            found = members(archive)
            return {name: _read(archive, info, CAPS[name]) for name, info in found.items()}
    except (BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)  # an OSError's words hold a path
        raise PatchFormatError(f"a .zip that cannot be read ({' '.join(str(reason).split())[:120]})", expected="a whole archive",
                               do=_AGAIN) from None


def members(archive: ZipFile) -> dict[str, ZipInfo]:
    """The entries of an archive that are a patch's files, by file name, checked before any is unpacked."""
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise PatchFormatError(f"a .zip of {len(entries):,} files", expected=f"at most {MAX_FILES}", do=_AGAIN)
    folders: set[PurePosixPath] = set()
    found: dict[str, ZipInfo] = {}
    for info in entries:
        path = _checked(info)
        if info.is_dir() or path.name in _IGNORED or path.parts[0] == "__MACOSX":
            continue
        if path.name not in KNOWN:
            raise PatchFormatError(f"{_shown(str(path))} in the .zip", expected=_CONTENTS, do=_AGAIN)
        folders.add(path.parent)
        if path.name in found or len(folders) > 1:
            raise PatchFormatError(f"more than one folder, or {path.name} twice, in the .zip", expected="one patch folder",
                                   do="pack and upload one patch at a time")
        if info.file_size > CAPS[path.name]:
            _too_large(path.name, info.file_size, CAPS[path.name])
        found[path.name] = info
    if (total := sum(info.file_size for info in found.values())) > MAX_UNPACKED:
        _too_large("the .zip", total, MAX_UNPACKED)
    return found


def loose(uploads: Sequence[Path]) -> dict[str, bytes]:
    """The bytes of uploaded files that have the names of a patch's files. Raises PatchFormatError."""
    files: dict[str, bytes] = {}
    for path in uploads:
        if path.name not in KNOWN or path.name in files:
            raise PatchFormatError(f"the file {_shown(path.name)}{' twice' if path.name in files else ''}", expected=_CONTENTS,
                                   do="upload a .zip of the patch's folder, or the files under their own names")
        size = path.stat().st_size
        if size > min(CAPS[path.name], MAX_UNPACKED):
            _too_large(path.name, size, min(CAPS[path.name], MAX_UNPACKED))
        files[path.name] = path.read_bytes()
    return files


def completed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, with card and adapter config made from the manifest where they are missing and its digests are of these."""
    try:
        manifest = Manifest.from_json(files[MANIFEST_FILE])
    except (KeyError, PatchFormatError):  # what the installation says better
        return files
    made = {CONFIG_FILE: to_bytes(adapter_config(manifest)), CARD_FILE: model_card(replace(manifest, files={})).encode()}
    return {name: data for name, data in made.items()
            if hashlib.sha256(data).hexdigest() == manifest.files.get(name)} | files


def _checked(info: ZipInfo) -> PurePosixPath:
    """The path of an entry inside the archive's one folder. Raises PatchFormatError for anything but a plain file or folder."""
    name, mode = info.filename, info.external_attr >> 16
    path = PurePosixPath(name)
    if (path.is_absolute() or ".." in path.parts or not path.parts or any(mark in name for mark in "\\:\0")
            or name != info.orig_filename):
        raise PatchFormatError(f"the path {_shown(info.orig_filename)} in the .zip", expected="paths inside the patch's folder",
                               do=_AGAIN)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PatchFormatError(f"{_shown(name)} in the .zip is a link or a device", expected="plain files",
                               do="pack the patch's files themselves, not links to them")
    if info.flag_bits & 1 or info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise PatchFormatError(f"{_shown(name)} in the .zip is encrypted, or packed in a rare way", expected="a plain .zip",
                               do=_AGAIN)
    return path


def _read(archive: ZipFile, info: ZipInfo, cap: int) -> bytes:
    """The bytes of an entry, which may lie about its size."""
    with archive.open(info) as file:
        data = file.read(min(cap, info.file_size) + 1)
    if len(data) > info.file_size:
        _too_large(_shown(info.filename), len(data), info.file_size)
    return data


def _too_large(name: str, size: int, cap: int) -> None:
    raise PatchFormatError(f"{name} with {size:,} bytes", expected=f"at most {cap:,}",
                           do="install a patch of this size with `patchlab patches install`")


def _shown(name: str) -> str:
    """A name from an archive, short and of printable characters."""
    printable = "".join(char if char.isprintable() else "\ufffd" for char in name)
    return repr(printable if len(printable) <= 80 else f"{printable[:79]}…")
