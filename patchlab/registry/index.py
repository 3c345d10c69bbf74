"""The patches at hand: found in folders, looked up by name and version, installed from elsewhere.

Names from outside are only ever compared with what was found, never joined to a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchlab.errors import InputError, NotFoundError, PatchFormatError
from patchlab.patches.manifest import Manifest
from patchlab.patches.patch import Patch, load_patch, read_folder, read_manifest, write_folder
from patchlab.storage import ASSETS

PATCHES = "patches"


@dataclass(frozen=True, slots=True)
class Installed:
    """A patch that a registry has: where it lies and what it says about itself."""

    folder: Path
    manifest: Manifest


Broken = list[tuple[Path, str]]


class Registry:
    """The patches in `folders`, looked at anew on every call; of a patch in two folders the first counts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(folder) for folder in folders)

    def list(self) -> list[Installed]:
        """Every readable patch by name, then version, newest last. Only manifests are read."""
        return _scan(self.folders)[0]

    @property
    def broken(self) -> Broken:
        """The folders that cannot be used, each with the reason."""
        return _scan(self.folders)[1]

    def find(self, name: str, version: str | None = None, *, fingerprints=None) -> Installed:
        """The patch `name` in `version` or its newest; a pre-release only where there is no release.

        Raises NotFoundError with near names.
        """
        installed = self.list()
        named = [one for one in installed if one.manifest.name == name]
        if not named:
            raise NotFoundError.of("patch", name, {one.manifest.name for one in installed})
        if version is None:
            fitting = [one for one in named if fingerprints and one.manifest.base.fingerprint in fingerprints]
            return (fitting or named)[-1]
        for one in named:
            if one.manifest.version == version:
                return one
        raise NotFoundError.of(f"version of {name!r}", version, (one.manifest.version for one in named))

    def newest_for(self, name: str, fingerprint: str) -> str | None:
        """The version of `name` to take on the base of this fingerprint: of those made for it the one `find` prefers."""
        fitting = [one.manifest.version for one in self.list()
                   if (one.manifest.name, one.manifest.base.fingerprint) == (name, fingerprint)]
        return fitting[-1] if fitting else None

    def load(self, name: str, version: str | None = None, *, fingerprints=None) -> Patch:
        """The patch `find` finds, read and checked whole. Raises as find and load_patch."""
        return load_patch(self.find(name, version, fingerprints=fingerprints).folder)


def default_registry() -> Registry:
    """The patches that come with PatchLab and those installed in the home folder."""
    return Registry([ASSETS / PATCHES, home_folder() / PATCHES])


def lookup(name: str, version: str | None = None) -> Installed:
    """The patch of the default registry that `Registry.find` finds: for verbs that show it, before any model is loaded."""
    return default_registry().find(name, version)


def home_folder() -> Path:
    """Where PatchLab keeps what a user installs: $PATCHLAB_HOME, or ~/.patchlab."""
    return Path(os.environ.get("PATCHLAB_HOME") or Path.home() / ".patchlab").expanduser()


def install(source: Path | str, home: Path | str) -> Installed:
    """Check the patch folder `source` and write the bytes that were checked under `home`/patches.

    Installing the same patch again changes nothing; a broken copy is replaced. Raises PatchFormatError,
    TamperedError, or InputError when another patch has that name and version.
    """
    patch, files = read_folder(Path(source))
    target = Path(home) / PATCHES / patch.manifest.folder_name
    try:
        present = read_folder(target)[1]
    except PatchFormatError:  # absent or broken
        write_folder(target, files)
        present = files
    if present != files:
        raise InputError(f"other bytes of {patch.manifest.name} {patch.manifest.version} in {target}",
                         expected="one content for one version",
                         do="remove that folder or install another version")
    return Installed(target, patch.manifest)


def _candidates(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        if folder.is_dir():
            children = (child for child in folder.iterdir() if not child.name.startswith("."))
            yield from sorted(child for child in children if child.is_dir())


def _scan(folders: Iterable[Path]) -> tuple[list[Installed], Broken]:
    found: dict[tuple[str, str], Installed] = {}
    broken: Broken = []
    for folder in _candidates(folders):
        try:
            manifest = read_manifest(folder)
        except PatchFormatError as error:
            broken.append((folder, str(error)))
            continue
        label = (manifest.name, manifest.version)
        first = found.setdefault(label, Installed(folder, manifest))
        if first.manifest.digest != manifest.digest:
            broken.append((folder, f"{' '.join(label)} differs from {first.folder}, which is used"))
    return sorted(found.values(), key=lambda one: (one.manifest.name, one.manifest.order)), broken
