"""The profiles of a server: the files in $PATCHLAB_HOME/profiles, of which a page's visitors choose one by name."""

from __future__ import annotations

from collections.abc import Collection

from patchlab.errors import NotFoundError, PatchLabError
from patchlab.patches.profile import Profile
from patchlab.patches.stack import Stack
from patchlab.registry.index import Registry, home_folder

PROFILES = "profiles"
SECOND_LANE = "patched 2: {name}"  # the lane of a second client


def find_profiles(fingerprints: Collection[str]) -> tuple[dict[str, Profile], list[str]]:
    """The profiles for a base with one of these fingerprints, by name, and why files there cannot be used."""
    found: dict[str, Profile] = {}
    broken = []
    for path in sorted((home_folder() / PROFILES).glob("*.json")):
        try:
            profile = Profile.read(path)
        except PatchLabError as error:
            broken.append(str(error))
            continue
        if profile.base in fingerprints:
            found.setdefault(profile.name, profile)
    return found, broken


def check_profile(profile: Profile, registry: Registry) -> None:
    """Compare a profile with what is installed. Raises NotFoundError, BaseMismatchError, TamperedError."""
    profile.check(lambda name, version: registry.find(name, version, fingerprints=[profile.base]).manifest)


def client_stack(name: str, fingerprints: Collection[str], registry: Registry) -> Stack:
    """The stack of a profile by its name. Raises NotFoundError, BaseMismatchError, TamperedError."""
    profiles, _ = find_profiles(fingerprints)
    if name not in profiles:
        raise NotFoundError.of("profile", str(name), profiles)
    check_profile(profiles[name], registry)
    return profiles[name].stack
