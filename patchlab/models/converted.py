"""A cache of open weights, dequantised from GGUF once: as safetensors they load in seconds, and without the package gguf.

An entry is a folder named after the GGUF file's digest. It is written beside its place under a lock and then renamed, and holds
the digest of each of its files: one that was cut off or changed is made again.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from patchlab.errors import ModelError
from patchlab.models.loading import load_backbone, quiet
from patchlab.models.open_weights import OpenWeights, checked_gguf
from patchlab.storage import json_object, locked, sha256, write_json

RECORD, SCHEMA = "converted.json", 1
LONGEST = 900  # seconds to wait for another process that converts


def cache_folder() -> Path:
    """Where converted weights lie: $PATCHLAB_CACHE, else patchlab under $XDG_CACHE_HOME, by default ~/.cache/patchlab."""
    if named := os.environ.get("PATCHLAB_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "patchlab"


def entry_folder(weights: OpenWeights) -> Path:
    """The folder of the converted weights, whether it exists or not; its own name is the model's."""
    return cache_folder() / "models" / weights.sha256[:16] / weights.name


def is_whole(folder: Path, weights: OpenWeights) -> bool:
    """Whether the entry was made of these weights and each of its files has its recorded digest."""
    try:
        record = json_object((folder / RECORD).read_bytes())
        digests = record["files"]
        present = {file.name for file in folder.iterdir()} - {RECORD}
        return (record["schema"], record["gguf"]) == (SCHEMA, weights.sha256) and present == set(digests) and all(
            sha256(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def converted(weights: OpenWeights) -> Path:
    """The folder of the converted weights, made now unless it is there; safe with several processes at once.

    Raises MissingExtraError without the GGUF file, TamperedError for another one, ModelError if there is no room for the
    cache, BusyError when another process holds the lock for 15 minutes.
    """
    folder = entry_folder(weights)
    if is_whole(folder, weights):
        return folder
    with _room(folder, weights), locked(folder, seconds=LONGEST):
        if not is_whole(folder, weights):  # another process may have made it meanwhile
            _convert(weights, folder)
    return folder


def _convert(weights: OpenWeights, folder: Path) -> None:
    gguf = checked_gguf(weights)
    for left in folder.parent.glob(f".{folder.name}.*.part"):  # of a process that was killed; nobody else holds the lock
        shutil.rmtree(left, ignore_errors=True)
    _check_room(folder, weights)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        # bfloat16: half the size of float32, and finer than four bits. The model is run in float32, see `loading`.
        backbone = load_backbone(gguf, device="cpu", dtype=torch.bfloat16, kernels=False)
        with quiet():
            backbone.model.save_pretrained(unfinished)
            backbone.tokenizer.save_pretrained(unfinished)
        files = sorted(unfinished.iterdir())
        umask = os.umask(0)
        os.umask(umask)
        for file in files:
            file.chmod(0o666 & ~umask)  # safetensors sets 0600
        unfinished.chmod(0o777 & ~umask)
        write_json(unfinished / RECORD, {"schema": SCHEMA, "gguf": weights.sha256, "name": weights.name,
                                         "files": {file.name: sha256(file) for file in files}})
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_room(folder: Path, weights: OpenWeights) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < weights.room:
        raise _no_room(f"{free / 1e6:,.0f} MB free in {folder.parent}", weights)


def _no_room(found: str, weights: OpenWeights) -> ModelError:
    return ModelError(found, expected=f"{weights.room / 1e6:,.0f} MB for the converted weights of {weights.name}",
                      do="free space, or set PATCHLAB_CACHE to another folder")


@contextmanager
def _room(folder: Path, weights: OpenWeights) -> Iterator[None]:
    """Turn errors of the cache's file system into a ModelError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(f"no space left in {folder.parent}", weights) from None
        raise _no_room(f"the cache {folder.parent} cannot be written ({error.strerror or error})", weights) from None
