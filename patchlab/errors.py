"""The errors that PatchLab raises for its callers.

    PatchLabError
    ├── InputError              a prompt, option or file that cannot be used as given
    │   └── ContextError        prompt, reply and patches exceed the model's context
    ├── NotFoundError           an unknown preset, patch, scorer, suite or recipe key
    ├── PatchFormatError        a patch folder or file with an invalid shape, dtype, size or schema
    │   └── TamperedError       bytes that differ from the digest in the manifest or in a profile
    ├── BaseMismatchError       a patch that was made for another base
    ├── StackError              a combination of patches or a strength that is not possible
    ├── ModelError              a model that cannot be loaded, or an architecture that patches cannot be used with
    ├── BusyError               a full queue of requests, or a file locked by another process
    ├── TrainingError           training that cannot start or continue
    └── MissingExtraError       an optional library that is not installed

Every message has three parts: what was found, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PatchLabError(Exception):
    """The base class; its message is one line of three parts, `found`, `expected` and `do`."""

    def __init__(self, found: str, *, expected: str, do: str) -> None:
        self.found, self.expected, self.do = found, expected, do
        super().__init__(" ".join(f"{found}; expected {expected}; {do}".split()))


class InputError(PatchLabError):
    """A prompt, option or file that cannot be used as given."""


class ContextError(InputError):
    """Prompt, reply and patches that together exceed the model's context."""


class NotFoundError(PatchLabError):
    """An unknown name."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> NotFoundError:
        """The error for an unknown `name` of this `kind`, which suggests up to three similar names of `known`."""
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else "choose one of those"
        shown = ", ".join(known) if known else "none is installed"
        return cls(f"unknown {kind} {name[:80]!r}", expected=f"one of: {shown}", do=hint)


class PatchFormatError(PatchLabError):
    """A patch folder or file with an invalid shape, dtype, size or schema."""


class TamperedError(PatchFormatError):
    """Bytes that differ from the digest in the manifest or in a profile."""


class BaseMismatchError(PatchLabError):
    """A patch that was made for another base."""


class StackError(PatchLabError):
    """A combination of patches or a strength that is not possible."""


class ModelError(PatchLabError):
    """A model that cannot be loaded, or an architecture that patches cannot be used with."""


class BusyError(PatchLabError):
    """A full queue of requests or a locked file; the call may succeed later."""


class TrainingError(PatchLabError):
    """Training that cannot start or continue."""


class MissingExtraError(PatchLabError):
    """An optional library that is not installed."""
