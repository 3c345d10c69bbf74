"""The patches at hand: found in folders, looked up by name and version, installed from elsewhere.

Names from outside are only ever compared with what was found, never joined to a path.
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
    """A patch that a registry has: where it lies and what it says about itself."""

    folder: Path
    manifest: Manifest


Broken = list[tuple[Path, str]]
Found = tuple[list[Installed], Broken]
Identity = tuple[int, ...] | None


class Registry:
    """The patches in `folders`, looked at anew on every call; of a patch in two folders the first counts.

    Manifests and patches that were read are kept for as long as their patch.json is the same file, so that a call costs a
    look at each folder. Calls from several threads are safe.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(folder) for folder in folders)
        self._lock = Lock()
        self._manifests: dict[Path, tuple[Identity, Manifest | str]] = {}  # a string says why there is none
        self._patches: dict[Path, tuple[Identity, Patch]] = {}

    def list(self) -> list[Installed]:
        """Every readable patch by name, then in the order of `version_key`, the preferred one last. Only manifests are read."""
        return self._scan()[0]

    @property
    def broken(self) -> Broken:
        """The folders that cannot be used, each with the reason."""
        return self._scan()[1]

    def find(self, name: str, version: str | None = None, *, fingerprints: Collection[str] | None = None) -> Installed:
        """The patch `name` in `version` or its newest; a pre-release only where there is no release.

        With the `fingerprints` of a base, what was made for it is preferred to all else. Raises NotFoundError with near names.
        """
        installed = self.list()
        named = [one for one in installed if one.manifest.name == name]
        if not named:
            raise NotFoundError.of("patch", name, {one.manifest.name for one in installed})
        asked = [one for one in named if version in (None, one.manifest.version)]
        if not asked:
            raise NotFoundError.of(f"version of {name!r}", str(version), {one.manifest.version for one in named})
        # where none fits, the choice among all of them tells the caller for which base it was made
        fitting = [one for one in asked if one.manifest.base.fingerprint in (fingerprints or ())]
        return (fitting or asked)[-1]

    def load(self, name: str, version: str | None = None, *, fingerprints: Collection[str] | None = None) -> Patch:
        """The patch `find` finds, read and checked whole. Raises as find and Patch.from_pretrained."""
        folder = self.find(name, version, fingerprints=fingerprints).folder
        now = identity(folder / MANIFEST_FILE)
        with self._lock:
            known, patch = self._patches.get(folder, (None, None))
        if patch is None or known != now:
            patch = Patch.from_pretrained(folder)
            with self._lock:  # a patch that was replaced while it was read is kept under what it no longer is
                self._patches[folder] = now, patch
        return patch

    def _scan(self) -> Found:
        found: dict[tuple[str, str, str], Installed] = {}
        broken: Broken = []
        with self._lock:
            self._manifests = {folder: self._read(folder) for folder in _candidates(self.folders)}
            self._patches = {folder: kept for folder, kept in self._patches.items() if folder in self._manifests}
            manifests = self._manifests
        for folder, (_, manifest) in manifests.items():
            if isinstance(manifest, str):
                broken.append((folder, manifest))
                continue
            label = (manifest.name, manifest.version, manifest.base.fingerprint)
            first = found.setdefault(label, Installed(folder, manifest))
            if first.manifest.digest != manifest.digest:
                broken.append((folder, f"{' '.join(label[:2])} differs from {first.folder}, which is used"))
        usable = [*found.values()]
        usable.reverse()  # of equal versions the one of the first folder comes last, which is preferred
        return sorted(usable, key=lambda one: (one.manifest.name, one.manifest.order)), broken

    def _read(self, folder: Path) -> tuple[Identity, Manifest | str]:
        """A folder's manifest, or why there is none, as long as its file is the same one."""
        now = identity(folder / MANIFEST_FILE)
        known = self._manifests.get(folder)
        if known and now and known[0] == now:
            return known
        try:
            return now, read_manifest(folder)
        except PatchFormatError as error:
            return now, str(error)


def default_registry() -> Registry:
    """The patches that come with PatchLab and those installed in the home folder."""
    return _registry((ASSETS / PATCHES, home_folder() / PATCHES))


@lru_cache
def _registry(folders: tuple[Path, ...]) -> Registry:
    return Registry(folders)


def lookup(name: str, version: str | None = None) -> Installed:
    """The patch of the default registry that `Registry.find` finds: for verbs that show it, before any model is loaded."""
    return default_registry().find(name, version)


def home_folder() -> Path:
    """Where PatchLab keeps what a user installs: $PATCHLAB_HOME, or ~/.patchlab."""
    return Path(os.environ.get("PATCHLAB_HOME") or Path.home() / ".patchlab").expanduser()


def install(source: Path | str, home: Path | str) -> Installed:
    """Check the patch folder `source` and write the bytes that were checked under `home`/patches.

    Installing the same patch again changes nothing; a broken copy is replaced. Several processes may install at once.
    Raises PatchFormatError, TamperedError, or InputError when another patch has that name and version.
    """
    manifest, files = read_files(Path(source))
    Patch.of_files(manifest, files)
    target = Path(home) / PATCHES / manifest.folder_name
    with locked(target):
        try:
            present = read_files(target)[1]
        except PatchFormatError:  # absent or broken
            write_files(target, files)
            present = files
    if present != files:
        raise InputError(f"other bytes of {manifest.name} {manifest.version} in {target}",
                         expected="one content for one version",
                         do="remove that folder or install another version")
    return Installed(target, manifest)


def _candidates(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                shown = [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
            yield from map(Path, sorted(shown))
