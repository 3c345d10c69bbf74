"""A patch as a value, and as a folder that PEFT opens as it is. Knows no models.

Writing: every file is made in memory, and the folder appears at once. Reading treats the folder as hostile:
names, sizes, digests, header, shape and finiteness are checked, in that order, on bytes read once, before a
tensor is returned.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from patchlab.errors import InputError, PatchFormatError, TamperedError
from patchlab.patches.card import model_card
from patchlab.patches.curve import Curve, decode_curve, encode_curve
from patchlab.patches.gate import Gate, decode_gate, encode_gate
from patchlab.patches.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    CURVE_FILE,
    FILES,
    GATE_FILE,
    MANIFEST_FILE,
    OPTIONAL,
    SIGNATURE_FILE,
    WEIGHTS_FILE,
    Manifest,
)
from patchlab.patches.strict_json import parse_object
from patchlab.patches.weights import MAX_HEADER_BYTES, Prefix, decode, encode

MAX_TEXT_BYTES = 2**20  # each of the files that are not weights
# Follow no link, and do not wait for the writer of a named pipe; not every system has these flags.
_OPEN = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_BLANK = "0" * 64
# The manifest carries its own digest, taken with these 64 digits as zeros. A quote inside a JSON string is
# written \", so no text in the manifest can look like this.
_SEAL = re.compile(rb'"patch\.json": "([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A prefix [P, D] float32, read-only, its manifest, and a gate and a curve where it has them. Equal when all are.

    `digest` stands for what is compiled: the prefix and the base it is for, saved or not.
    Raises PatchFormatError when prefix or gate are not what the manifest says.
    """

    manifest: Manifest
    prefix: Prefix
    gate: Gate | None = None
    curve: Curve | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        wanted = (self.manifest.length, self.manifest.width)
        array = isinstance(self.prefix, np.ndarray)
        if not array or self.prefix.dtype != np.float32 or self.prefix.shape != wanted:
            kind = getattr(self.prefix, "dtype", type(self.prefix).__name__)
            got = f"{kind} {list(getattr(self.prefix, 'shape', ()))}"
            raise PatchFormatError(f"a prefix of {got}",
                                   expected=f"[P, D] = float32 {list(wanted)} (manifest)",
                                   do="convert the prefix or correct the manifest")
        if not np.isfinite(self.prefix).all():
            raise PatchFormatError("a prefix with NaN or infinite numbers", expected="finite numbers only",
                                   do="train again with a lower learning rate")
        if self.gate and len(self.gate.weight) != self.manifest.width:
            raise PatchFormatError(f"a gate of width {len(self.gate.weight)}", expected=f"{self.manifest.width} (manifest)",
                                   do="fit the gate on the patch's own base")
        own = np.array(self.prefix, order="C")
        own.flags.writeable = False
        object.__setattr__(self, "prefix", own)
        identity = f"{self.manifest.base.fingerprint} {wanted}".encode()
        object.__setattr__(self, "digest", hashlib.sha256(identity + own.tobytes()).hexdigest())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Patch):
            return NotImplemented
        return ((self.manifest, self.digest, self.gate, self.curve)
                == (other.manifest, other.digest, other.gate, other.curve))

    def __hash__(self) -> int:
        return hash((self.manifest, self.digest))


def save_patch(patch: Patch, folder: Path | str, *, card: str | None = None) -> Path:
    """Write `patch` as `folder` (the patch's own folder) and return it; the same patch gives the same bytes.

    `card` replaces the README.md that is otherwise written from the manifest. A patch already there is
    replaced whole. Raises InputError when `folder` holds something else.
    """
    unsaved = replace(patch.manifest, files={})
    text = (model_card(unsaved) if card is None else card).encode("utf-8")
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(f"a card of {len(text)} bytes", expected=f"at most {MAX_TEXT_BYTES}",
                         do="shorten it")
    files = {CARD_FILE: text, CONFIG_FILE: _json(adapter_config(unsaved)), WEIGHTS_FILE: encode(patch.prefix)}
    if patch.gate:
        files[GATE_FILE] = encode_gate(patch.gate)
    if patch.curve:
        files[CURVE_FILE] = encode_curve(patch.curve)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[MANIFEST_FILE] = _sealed(replace(unsaved, files=digests))
    return write_folder(Path(folder), files)


def load_patch(folder: Path | str) -> Patch:
    """The patch in `folder`, checked.

    Raises PatchFormatError for a folder that is not a patch, TamperedError naming the file for changed bytes.
    """
    return read_folder(Path(folder))[0]


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest in `folder`, checked against its own digest and alone. Raises as load_patch."""
    return _read_manifest(Path(folder))[0]


def read_folder(folder: Path) -> tuple[Patch, dict[str, bytes]]:
    """The patch in `folder` and the very bytes that were checked, by file name. Raises as load_patch."""
    names = _names(folder)
    manifest, files = _read_manifest(folder)
    _check_optional(folder, names, manifest)
    caps = {WEIGHTS_FILE: 8 + MAX_HEADER_BYTES + manifest.length * manifest.width * 4,
            GATE_FILE: 8 + MAX_HEADER_BYTES + (manifest.width + 2) * 4}
    for name in sorted(names - {MANIFEST_FILE}):
        files[name] = _read(folder, name, cap=caps.get(name, MAX_TEXT_BYTES))
        wanted = manifest.files.get(name)
        if name != SIGNATURE_FILE and hashlib.sha256(files[name]).hexdigest() != wanted:
            _tampered(folder, name)
    # Digests only say that the files belong together; what PEFT would do must match the manifest too.
    if parse_object(files[CONFIG_FILE], where=CONFIG_FILE) != adapter_config(manifest):
        raise PatchFormatError(f"{CONFIG_FILE} in {folder} describes another adapter than {MANIFEST_FILE}",
                               expected="the same base, length and width in both",
                               do="get the patch again from its vendor")
    prefix = decode(files[WEIGHTS_FILE], length=manifest.length, width=manifest.width)
    gate = decode_gate(files[GATE_FILE], width=manifest.width) if GATE_FILE in files else None
    curve = decode_curve(files[CURVE_FILE]) if CURVE_FILE in files else None
    return Patch(manifest, prefix, gate, curve), files


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Make `folder` hold exactly `files`: written beside it, then moved into place. Returns `folder`.

    Raises InputError when there is something at `folder` that is not a patch.
    """
    _check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fresh, old = workshop / "fresh", workshop / "old"
        fresh.mkdir()
        for name, data in files.items():
            with (fresh / name).open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return folder


def adapter_config(manifest: Manifest) -> dict[str, Any]:
    """PEFT's prompt-tuning config for schema 1: what PEFT cannot read off the base, no version of PEFT."""
    return {
        "base_model_name_or_path": manifest.base.id,
        "inference_mode": True,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": manifest.length,
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",
            # otherwise PEFT loads a tokenizer to initialise what it then overwrites
        "revision": manifest.base.revision or None,
        "task_type": "CAUSAL_LM",
        "token_dim": manifest.width,
    }


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _sealed(manifest: Manifest) -> bytes:
    blank = _json(replace(manifest, files={**manifest.files, MANIFEST_FILE: _BLANK}).to_json())
    digest = hashlib.sha256(blank).hexdigest()
    return _SEAL.sub(f'"{MANIFEST_FILE}": "{digest}"'.encode(), blank)


def _read_manifest(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    data = _read(folder, MANIFEST_FILE, cap=MAX_TEXT_BYTES)
    seals = list(_SEAL.finditer(data))
    if len(seals) == 1:
        start, end = seals[0].span(1)
        blank = data[:start] + _BLANK.encode() + data[end:]
        if hashlib.sha256(blank).hexdigest() != seals[0][1].decode():
            _tampered(folder, MANIFEST_FILE)
    manifest = Manifest.from_json(parse_object(data, where=f"{MANIFEST_FILE} in {folder}"))
    if len(seals) != 1 or manifest.files.keys() - set(OPTIONAL) != set(FILES):
        raise PatchFormatError(f"{MANIFEST_FILE} in {folder} lists digests of {sorted(manifest.files)}",
                               expected=f"one digest for each of {', '.join(FILES)}, and perhaps of {', '.join(OPTIONAL)}",
                               do="save the patch again with PatchLab")
    return manifest, {MANIFEST_FILE: data}


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise PatchFormatError(f"no folder {folder}", expected="a patch folder", do="check the path")
    names: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            names.add(entry.name)
            if len(names) > 64:  # enough to name what is wrong; a hostile folder may hold millions
                break
    extra, missing = sorted(names - {*FILES, *OPTIONAL, SIGNATURE_FILE}), sorted(set(FILES) - names)
    if extra or missing:
        wrong = [f"extra {name[:80]!r}" for name in extra[:8]] + [f"no {name}" for name in missing]
        raise PatchFormatError(f"patch folder {folder} has {', '.join(wrong)}",
                               expected=f"{', '.join(FILES)} and perhaps {', '.join((*OPTIONAL, SIGNATURE_FILE))}, "
                                        "nothing else",
                               do="remove what is extra, or get the patch again from its vendor")
    return names


def _check_optional(folder: Path, names: set[str], manifest: Manifest) -> None:
    """Raise unless the optional files are those the manifest lists: none slipped in, none taken away."""
    for name in OPTIONAL:
        if (name in names) != (name in manifest.files):
            raise TamperedError(f"patch folder {folder} has {'a' if name in names else 'no'} {name}",
                                expected=f"{'none' if name in names else 'one'}, as {MANIFEST_FILE} says",
                                do="get the patch again from its vendor")


def _read(folder: Path, name: str, *, cap: int) -> bytes:
    """The bytes of a plain file of at most `cap`, through one descriptor: no swap between check and read."""
    path = folder / name
    if path.is_symlink():
        _not_regular(path, "a symbolic link")
    try:
        handle = os.open(path, _OPEN)
    except FileNotFoundError:
        raise PatchFormatError(f"no {name} in {folder}", expected="a patch folder",
                               do="check the path") from None
    except OSError as error:
        raise PatchFormatError(f"{path} cannot be opened ({error.strerror})", expected="a readable file",
                               do="check its permissions") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):  # a folder could not even be made a file object
        os.close(handle)
        _not_regular(path, "not a regular file")
    with os.fdopen(handle, "rb") as data:
        content = data.read(cap + 1) if status.st_size <= cap else b""
    if status.st_size > cap or len(content) > cap:
        raise PatchFormatError(f"{path} has {max(status.st_size, len(content))} bytes",
                               expected=f"at most {cap}",
                               do="get the patch again from its vendor")
    return content


def _check_replaceable(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    names = set(os.listdir(folder)) if folder.is_dir() and not folder.is_symlink() else {""}
    if names and not (MANIFEST_FILE in names and names <= {*FILES, *OPTIONAL, SIGNATURE_FILE}):
        raise InputError(f"{folder} exists and is not a patch folder",
                         expected="a new folder or a patch to replace",
                         do="choose another folder")


def _not_regular(path: Path, what: str) -> NoReturn:
    raise PatchFormatError(f"{path} is {what}", expected="a plain file inside the folder",
                           do="copy the patch with its files, not links to them")


def _tampered(folder: Path, name: str) -> NoReturn:
    raise TamperedError(f"{name} in {folder} was changed",
                        expected=f"the bytes whose sha256 is in {MANIFEST_FILE}",
                        do="get the patch again from its vendor")
