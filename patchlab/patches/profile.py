"""A profile: a client's pinned stack, a small JSON file that says exactly which patches a client gets.

    {"schema": 1, "name": "acme", "base": FINGERPRINT, "mode": "parallel", "gates": false, "placement": "turn",
     "patches": [{"name": "refusal", "version": "1.0.0", "digest": SHA256, "strength": 0.5}]}

The stack of a profile is that of the file and of nothing else: a newer version that is installed later changes nothing, and a
patch with other contents is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from patchlab.errors import BaseMismatchError, InputError, TamperedError
from patchlab.patches.manifest import MAX_STRENGTH, Identity, Manifest, Sha256, is_name, is_version
from patchlab.patches.stack import Entry, Mode, Placement, Stack
from patchlab.storage import write_json
from patchlab.validation import STRICT, checked, dump, parse, such

MAX_PROFILE = 2**20  # bytes of a file
_DO = "correct the field, or make the profile again with `patchlab patches pin`"


@checked("profile", do=_DO, error=InputError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PinnedPatch:
    """One patch of a profile: its version, the digest of its files, and its strength, which is never left open."""

    name: Annotated[str, such(is_name, "the name of a patch")]
    version: Annotated[str, such(is_version, "a semantic version such as 1.0.0")]
    digest: Sha256
    strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)]


@checked("profile", do=_DO, error=InputError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Profile:
    """A pinned stack for the base with this fingerprint. Raises InputError naming an invalid field, StackError."""

    schema: Literal[1] = 1
    name: Annotated[str, such(is_name, "lower-case letters, digits and single hyphens, such as 'acme'")]
    base: Identity
    patches: Annotated[tuple[PinnedPatch, ...], Field(max_length=100)]
    mode: Mode = "parallel"
    gates: bool = False
    placement: Placement = "turn"

    @property
    def stack(self) -> Stack:
        """The stack with every version and strength given. Raises StackError."""
        entries = tuple(Entry(each.name, each.strength, each.version) for each in self.patches)
        return Stack(entries, self.mode, self.gates, self.placement)

    @classmethod
    def of(cls, name: str, stack: Stack, manifests: Sequence[Manifest], strengths: Sequence[float]) -> Profile:
        """The profile that pins a stack to these saved patches, in its order. Raises InputError for none or of several bases."""
        bases = {manifest.base.fingerprint for manifest in manifests}
        if len(bases) != 1:
            raise InputError(f"patches of {len(bases)} bases", expected="patches of one base", do="name patches of the same base")
        pinned = tuple(PinnedPatch(name=manifest.name, version=manifest.version, digest=manifest.digest, strength=strength)
                       for manifest, strength in zip(manifests, strengths, strict=True))
        return cls(name=name, base=bases.pop(), patches=pinned, mode=stack.mode, gates=stack.gates, placement=stack.placement)

    def check(self, find: Callable[[str, str], Manifest]) -> None:
        """Compare with what is installed: `find` gives the manifest of a name and version for the profile's base.

        Raises TamperedError for a patch with another digest, and what `find` raises for one that is not installed.
        """
        for each in self.patches:
            found = find(each.name, each.version)
            if found.base.fingerprint != self.base:
                raise BaseMismatchError(
                    f"{each.name} {each.version} for the base {found.base.fingerprint[:12]}",
                    expected=f"one for {self.base[:12]}, the base of the profile {self.name}", do="install that patch")
            if found.digest != each.digest:
                raise TamperedError(
                    f"patch {each.name} {each.version} with the digest {found.digest[:12] or 'none'}",
                    expected=f"{each.digest[:12]}, to which the profile {self.name} is pinned",
                    do="install the patch that was pinned, or pin the profile again")

    def check_base(self, fingerprints: Collection[str]) -> None:
        """Raise BaseMismatchError unless the profile is for a base with one of these fingerprints."""
        if self.base not in fingerprints:
            raise BaseMismatchError(f"the profile {self.name} for the base {self.base[:12]}",
                                    expected=f"one for {' or '.join(each[:12] for each in fingerprints)}, which is loaded",
                                    do="load its base, or choose another profile")

    def save(self, path: Path) -> None:
        """Write the profile, atomically."""
        write_json(path, dump(self))

    @classmethod
    def read(cls, path: Path) -> Profile:
        """The profile of a file. Raises InputError for a file that is none, PatchFormatError for one that is not JSON."""
        if not path.is_file():
            raise InputError(f"no file {path}", expected="a profile", do="check the path")
        with path.open("rb") as file:
            data = file.read(MAX_PROFILE + 1)
        if len(data) > MAX_PROFILE:
            raise InputError(f"{path} of more than {MAX_PROFILE:,} bytes", expected="a profile", do="check the path")
        return parse(cls, data, where=str(path), schema=1)
