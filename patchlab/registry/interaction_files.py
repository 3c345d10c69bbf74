"""Where measured interactions lie: a file among the folders of patches, which are the only things a registry lists there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from patchlab.errors import PatchFormatError
from patchlab.patches.interactions import Interactions, load_interactions
from patchlab.registry.index import PATCHES, Installed, Registry, home_folder
from patchlab.storage import identity

FILE = "interactions.json"


def place_of(installed: Iterable[Installed]) -> Path:
    """Where the interactions of these patches belong: beside them where they lie together, else in the home folder."""
    folders = {one.folder.parent for one in installed}
    return (folders.pop() if len(folders) == 1 else home_folder() / PATCHES) / FILE


def find_interactions(registry: Registry, *, fingerprints: Collection[str] = ()) -> tuple[Interactions, list[str]]:
    """The fresh rows of all files beside the registry's patches, and why a file cannot be used.

    With the `fingerprints` of a base only what was measured on it, see `Interactions.fresh`.
    """
    found, broken = Interactions(), []
    manifests = [one.manifest for one in registry.list()]
    for folder in registry.folders:
        path = folder / FILE
        if not path.exists():
            continue
        try:
            found = found.joined(_loaded(path, identity(path)).fresh(manifests, fingerprints=fingerprints))
        except (PatchFormatError, OSError) as error:
            broken.append(f"{path} cannot be used: {error}")
    return found, broken


@lru_cache(maxsize=8)
def _loaded(path: Path, now: tuple[int, ...] | None) -> Interactions:
    """The interactions in a file, read once as long as it is the same one."""
    return load_interactions(path)
