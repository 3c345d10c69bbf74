"""Finds and reads interactions.json, the file of measured interactions that lies beside the folders of the patches."""

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
    """The path for interactions of these patches: beside them if all are in one folder, else in the home folder."""
    folders = {each.folder.parent for each in installed}
    return (folders.pop() if len(folders) == 1 else home_folder() / PATCHES) / FILE


def find_interactions(registry: Registry, *, fingerprints: Collection[str] = ()) -> tuple[Interactions, list[str]]:
    """The rows without stale patches of every interactions.json in the registry's folders, and why any file is unusable.

    With the `fingerprints` of a base, only rows measured on it, see `Interactions.fresh`.
    """
    interactions, broken = Interactions(), []
    manifests = [each.manifest for each in registry.list()]
    for folder in registry.folders:
        path = folder / FILE
        if not path.exists():
            continue
        try:
            interactions = interactions.joined(_loaded(path, identity(path)).fresh(manifests, fingerprints=fingerprints))
        except (PatchFormatError, OSError) as error:
            broken.append(f"{path} cannot be used: {error}")
    return interactions, broken


@lru_cache(maxsize=8)
def _loaded(path: Path, now: tuple[int, ...] | None) -> Interactions:
    """The interactions in a file, cached while its identity `now` is the same."""
    return load_interactions(path)
