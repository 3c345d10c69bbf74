"""Installed patches: listed from folders, looked up by name and version, installed from other folders.

A name given by a caller is compared with the names in manifests and never joined to a path.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from patchlab.errors import InputError, NotFoundError, PatchFormatError
from patchlab.patches.folder import read_files, read_manifest, write_files
from patchlab.patches.manifest import MANIFEST_FILE, Manifest
from patchlab.patches.patch import Patch
from patchlab.storage import ASSETS, identity, locked

PATCHES = "patches"


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed patch: its folder and its manifest."""

    folder: Path
    manifest: Manifest


Broken = list[tuple[Path, str]]
Scan = tuple[list[Installed], Broken]
Identity = tuple[int, ...] | None


class Registry:
    """The patches in `folders`, which are scanned on every call; of a patch in two folders the one in the first is used.

    Manifests and patches are cached until their patch.json is replaced, so that a call lists directories and stats one file
    per patch. Thread-safe.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(folder) for folder in folders)
        self._lock = Lock()
        self._manifests: dict[Path, tuple[Identity, Manifest | str]] = {}  # or why it is unusable
        self._patches: dict[Path, tuple[Identity, Patch]] = {}

    def list(self) -> list[Installed]:
        """Every usable patch, sorted by name and `version_key`, the preferred version last. Reads manifests only."""
        return self._scan()[0]

    @property
    def broken(self) -> Broken:
        """The folders that are not usable patches, each with the reason."""
        return self._scan()[1]

    def find(self, name: str, version: str | None = None, *, fingerprints: Collection[str] | None = None) -> Installed:
        """The patch `name` in `version`, by default the newest; a pre-release only when there is no release.

        Patches made for a base with one of `fingerprints` are preferred. Raises NotFoundError with similar names.
        """
        installed = self.list()
        named = [each for each in installed if each.manifest.name == name]
        if not named:
            raise NotFoundError.of("patch", name, {each.manifest.name for each in installed})
        candidates = [each for each in named if version in (None, each.manifest.version)]
        if not candidates:
            raise NotFoundError.of(f"version of {name!r}", str(version), {each.manifest.version for each in named})
        # without one for this base, one for another base is returned, so that the caller can report which base it needs
        fitting = [each for each in candidates if each.manifest.base.fingerprint in (fingerprints or ())]
        return (fitting or candidates)[-1]

    def load(self, name: str, version: str | None = None, *, fingerprints: Collection[str] | None = None) -> Patch:
        """The patch that `find` returns, read and checked. Raises as `find` and `Patch.from_pretrained`."""
        folder = self.find(name, version, fingerprints=fingerprints).folder
        now = identity(folder / MANIFEST_FILE)
        with self._lock:
            cached, patch = self._patches.get(folder, (None, None))
        if patch is None or cached != now:
            patch = Patch.from_pretrained(folder)
            with self._lock:  # one replaced while it was read is cached under its old identity and read again next time
                self._patches[folder] = now, patch
        return patch

    def _scan(self) -> Scan:
        usable: dict[tuple[str, str, str], Installed] = {}
        broken: Broken = []
        with self._lock:
            self._manifests = {folder: self._read(folder) for folder in _candidates(self.folders)}
            self._patches = {folder: entry for folder, entry in self._patches.items() if folder in self._manifests}
            manifests = self._manifests
        for folder, (_, manifest) in manifests.items():
            if isinstance(manifest, str):
                broken.append((folder, manifest))
                continue
            label = (manifest.name, manifest.version, manifest.base.fingerprint)
            first = usable.setdefault(label, Installed(folder, manifest))
            if first.manifest.digest != manifest.digest:
                broken.append((folder, f"{' '.join(label[:2])} differs from {first.folder}, which is used"))
        # the sort is stable: of equal versions for several bases the one of the first folder comes last, as the preferred one
        last_folder_first = [*usable.values()][::-1]
        return sorted(last_folder_first, key=lambda each: (each.manifest.name, each.manifest.order)), broken

    def _read(self, folder: Path) -> tuple[Identity, Manifest | str]:
        """A folder's manifest, or why it is unusable; from the cache when patch.json is the same file."""
        now = identity(folder / MANIFEST_FILE)
        cached = self._manifests.get(folder)
        if cached and now and cached[0] == now:
            return cached
        try:
            return now, read_manifest(folder)
        except PatchFormatError as error:
            return now, str(error)


def default_registry() -> Registry:
    """The patches that ship with PatchLab, those of pocket first, and those installed under `home_folder`."""
    return _registry((ASSETS / PATCHES, *sorted(ASSETS.glob(f"*/{PATCHES}")), home_folder() / PATCHES))


@lru_cache
def _registry(folders: tuple[Path, ...]) -> Registry:
    return Registry(folders)


def lookup(name: str, version: str | None = None, *, base: str | None = None) -> Installed:
    """`default_registry().find(name, version)`, for command-line verbs that load no model.

    Patches made for a base whose fingerprint begins with `base` are preferred.
    """
    registry = default_registry()
    known = {each.manifest.base.fingerprint for each in registry.list()}
    return registry.find(name, version, fingerprints={each for each in known if base and each.startswith(base)})


def home_folder() -> Path:
    """The folder of the user's installed patches: $PATCHLAB_HOME, by default ~/.patchlab."""
    return Path(os.environ.get("PATCHLAB_HOME") or Path.home() / ".patchlab").expanduser()


def install(source: Path | str, home: Path | str) -> Installed:
    """Check the patch folder `source` and copy the checked bytes to a folder under `home`/patches.

    Installing the same patch again changes nothing; an unusable copy is replaced. Safe against concurrent installs.
    Raises PatchFormatError, TamperedError, or InputError when another patch with that name and version is installed.
    """
    manifest, files = read_files(Path(source))
    Patch.of_files(manifest, files)
    target = Path(home) / PATCHES / manifest.folder_name
    with locked(target):
        try:
            present = read_files(target)[1]
        except PatchFormatError:  # absent or unusable
            write_files(target, files)
            present = files
    if present != files:
        raise InputError(f"{manifest.name} {manifest.version} with other contents in {target}",
                         expected="one content per version", do="remove that folder or install another version")
    return Installed(target, manifest)


def _candidates(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                paths = [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
            yield from map(Path, sorted(paths))
