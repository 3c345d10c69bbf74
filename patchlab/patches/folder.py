"""A patch's folder as bytes: reading and writing its files, with checks of names, sizes and digests. Parses no tensors.

A folder is treated as hostile: names, sizes and digests are checked, in that order, on bytes that are read once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from patchlab.errors import InputError, PatchFormatError, TamperedError
from patchlab.patches.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    FILES,
    GATE_FILE,
    MANIFEST_FILE,
    MAX_PREFIX_BYTES,
    MAX_WIDTH,
    OPTIONAL,
    SIGNATURE_FILE,
    WEIGHTS_FILE,
    Manifest,
)
from patchlab.patches.weights import MAX_HEADER_BYTES
from patchlab.storage import read_steady, write_folder
from patchlab.validation import parse_object

MAX_TEXT_BYTES = 2**20  # of each file without tensors
KNOWN = (*FILES, *OPTIONAL, SIGNATURE_FILE)
CAPS = dict.fromkeys(KNOWN, MAX_TEXT_BYTES) | {  # maximum bytes of each file of any patch
    WEIGHTS_FILE: 8 + MAX_HEADER_BYTES + MAX_PREFIX_BYTES, GATE_FILE: 8 + MAX_HEADER_BYTES + (MAX_WIDTH + 2) * 4}
# Follow no link, and do not wait for the writer of a named pipe; not every system has these flags.
_OPEN = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_BLANK = "0" * 64
# The manifest contains its own digest, computed with these 64 digits as zeros. Inside a JSON string a quote is written \",
# so no text in the manifest can match this pattern.
_SEAL = re.compile(rb'"patch\.json": "([0-9a-f]{64})"')
_AGAIN = "get the patch again from its vendor"


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest in `folder`, checked against its own digest only. Raises PatchFormatError, TamperedError."""
    return read_steady(Path(folder), _manifest)[0]


def read_files(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest in `folder` and the bytes of every file, checked against its digests, all from one version of the folder.

    Raises PatchFormatError for a folder that is not a patch, TamperedError naming a file whose bytes were changed.
    """
    return read_steady(folder, _files)


def sealed(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """`files` with the adapter config and the manifest added; the manifest contains the digests of all of them."""
    contents = {**files, CONFIG_FILE: to_bytes(adapter_config(manifest))}
    if (size := len(contents[CARD_FILE])) > MAX_TEXT_BYTES:
        raise InputError(f"a card of {size} bytes", expected=f"at most {MAX_TEXT_BYTES}", do="shorten it")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    blank = to_bytes(replace(manifest, files={**digests, MANIFEST_FILE: _BLANK}).to_json())
    seal = f'"{MANIFEST_FILE}": "{hashlib.sha256(blank).hexdigest()}"'
    return {**contents, MANIFEST_FILE: _SEAL.sub(seal.encode(), blank)}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Make `folder` hold exactly `files`, atomically. Raises InputError when it holds anything but a patch."""
    if os.path.lexists(folder):
        names = set(os.listdir(folder)) if folder.is_dir() and not folder.is_symlink() else {""}
        if names and not (MANIFEST_FILE in names and names <= {*KNOWN}):
            raise InputError(f"{folder} exists and is not a patch folder", expected="a new folder or a patch to replace",
                             do="choose another folder")
    return write_folder(folder, files)


def adapter_config(manifest: Manifest) -> dict[str, Any]:
    """PEFT's prompt-tuning config: the keys that PEFT cannot derive from the base, without a PEFT version."""
    return {
        "base_model_name_or_path": manifest.base.id,
        "inference_mode": True,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": manifest.length,
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",  # "TEXT" would load a tokenizer to compute values that are then overwritten
        "revision": manifest.base.revision or None,
        "task_type": "CAUSAL_LM",
        "token_dim": manifest.width,
    }


def to_bytes(value: dict[str, Any]) -> bytes:
    """Indented JSON in UTF-8 with a final newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def read_file(folder: Path, name: str, *, cap: int) -> bytes:
    """The bytes of a regular file of at most `cap` bytes, checked and read through one file descriptor."""
    path = folder / name
    if path.is_symlink():
        _not_regular(path, "a symbolic link")
    try:
        handle = os.open(path, _OPEN)
    except FileNotFoundError:
        raise PatchFormatError(f"no {name} in {folder}", expected="a patch folder", do="check the path") from None
    except OSError as error:
        raise PatchFormatError(f"{path} cannot be opened ({error.strerror})", expected="a readable file",
                               do="check its permissions") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):  # os.fdopen would raise its own error for a directory
        os.close(handle)
        _not_regular(path, "not a regular file")
    with os.fdopen(handle, "rb") as data:
        content = data.read(cap + 1) if status.st_size <= cap else b""
    if status.st_size > cap or len(content) > cap:
        raise PatchFormatError(f"{path} has {max(status.st_size, len(content))} bytes", expected=f"at most {cap}", do=_AGAIN)
    return content


def _files(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    names = _names(folder)
    manifest, data = _manifest(folder)
    for name in OPTIONAL:  # neither added nor removed
        if (name in names) != (name in manifest.files):
            raise TamperedError(f"patch folder {folder} has {'a' if name in names else 'no'} {name}",
                                expected=f"{'none' if name in names else 'one'}, as {MANIFEST_FILE} says", do=_AGAIN)
    caps = CAPS | {WEIGHTS_FILE: 8 + MAX_HEADER_BYTES + manifest.length * manifest.width * 4,
                   GATE_FILE: 8 + MAX_HEADER_BYTES + (manifest.width + 2) * 4}
    files = {MANIFEST_FILE: data}
    for name in sorted(names - {MANIFEST_FILE}):
        files[name] = read_file(folder, name, cap=caps[name])
        if name != SIGNATURE_FILE and hashlib.sha256(files[name]).hexdigest() != manifest.files.get(name):
            _tampered(folder, name)
    # Digests only prove that the files belong together; PEFT reads the config, so it must agree with the manifest.
    if parse_object(files[CONFIG_FILE], where=CONFIG_FILE) != adapter_config(manifest):
        raise PatchFormatError(f"{CONFIG_FILE} in {folder} describes another adapter than {MANIFEST_FILE}",
                               expected="the same base, length and width in both", do=_AGAIN)
    return manifest, files


def _manifest(folder: Path) -> tuple[Manifest, bytes]:
    data = read_file(folder, MANIFEST_FILE, cap=MAX_TEXT_BYTES)
    seals = list(_SEAL.finditer(data))
    if len(seals) == 1:
        start, end = seals[0].span(1)
        blank = data[:start] + _BLANK.encode() + data[end:]
        if hashlib.sha256(blank).hexdigest() != seals[0][1].decode():
            _tampered(folder, MANIFEST_FILE)
    manifest = Manifest.from_json(data, where=f"{MANIFEST_FILE} in {folder}")
    if len(seals) != 1 or manifest.files.keys() - set(OPTIONAL) != set(FILES):
        raise PatchFormatError(f"{MANIFEST_FILE} in {folder} lists digests of {sorted(manifest.files)}",
                               expected=f"one digest for each of {', '.join(FILES)}, and optionally for {', '.join(OPTIONAL)}",
                               do="save the patch again with PatchLab")
    return manifest, data


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise PatchFormatError(f"no folder {folder}", expected="a patch folder", do="check the path")
    with os.scandir(folder) as entries:  # a hostile folder may hold millions of files: 65 are enough to refuse it
        names = {entry.name for entry, _ in zip(entries, range(65), strict=False)}
    if MANIFEST_FILE not in names and {CONFIG_FILE, WEIGHTS_FILE} <= names:
        raise PatchFormatError(f"{folder} holds a PEFT adapter and no {MANIFEST_FILE}", expected=", ".join(FILES),
                               do="convert it with Patch.from_peft(folder, base=..., name=..., domain=...)")
    extra, missing = sorted(names - {*KNOWN}), sorted(set(FILES) - names)
    if extra or missing:
        wrong = [f"extra {name[:80]!r}" for name in extra[:8]] + [f"no {name}" for name in missing]
        raise PatchFormatError(f"patch folder {folder} has {', '.join(wrong)}", expected=f"only {', '.join(FILES)}, and "
                               f"optionally {', '.join((*OPTIONAL, SIGNATURE_FILE))}",
                               do="remove the extra files, or get the patch again from its vendor")
    return names


def _not_regular(path: Path, what: str) -> NoReturn:
    raise PatchFormatError(f"{path} is {what}", expected="a regular file inside the folder",
                           do="copy the patch's files themselves, not links to them")


def _tampered(folder: Path, name: str) -> NoReturn:
    raise TamperedError(f"{name} in {folder} was changed", expected=f"the bytes whose sha256 is in {MANIFEST_FILE}", do=_AGAIN)
