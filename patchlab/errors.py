"""Every error PatchLab raises on purpose.

    PatchLabError
    ├── InputError              a prompt, option or file that cannot be used as given
    │   └── ContextError        prompt + reply + patches do not fit the model's context
    ├── NotFoundError           an unknown preset, patch, scorer, suite or recipe key
    ├── PatchFormatError        a patch folder that is not one: shape, dtype, size, schema
    │   └── TamperedError       bytes differ from what the manifest says
    ├── BaseMismatchError       a patch made for another base
    ├── StackError              patches that cannot stand together
    ├── ModelError              a model folder that cannot be loaded, or an architecture that cannot be patched
    ├── BusyError               more requests than can wait in line
    ├── TrainingError           training cannot start or go on
    └── MissingExtraError       an optional library is not installed

The message always has three parts: what was found, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PatchLabError(Exception):
    """An error with a way out: what was found, what was expected, what to do; one line."""

    def __init__(self, found: str, *, expected: str, do: str) -> None:
        self.found, self.expected, self.do = found, expected, do
        super().__init__(" ".join(f"{found}; expected {expected}; {do}".split()))


class InputError(PatchLabError):
    """A prompt, option or file that cannot be used as given."""


class ContextError(InputError):
    """Prompt, reply and patches together do not fit the model's context."""


class NotFoundError(PatchLabError):
    """A name that nothing here has."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> NotFoundError:
        """The error for an unknown `name` of a `kind`, with the nearest known names first."""
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else "choose one of those"
        shown = ", ".join(known) if known else "none is installed"
        return cls(f"unknown {kind} {name[:80]!r}", expected=f"one of: {shown}", do=hint)


class PatchFormatError(PatchLabError):
    """A folder or file that is not a patch of a known format."""


class TamperedError(PatchFormatError):
    """Bytes that differ from what the manifest says."""


class BaseMismatchError(PatchLabError):
    """A patch made for another base."""


class StackError(PatchLabError):
    """Patches that cannot stand together, or a strength that cannot be used."""


class ModelError(PatchLabError):
    """A model that cannot be loaded, or an architecture that cannot carry a patch."""


class BusyError(PatchLabError):
    """More requests than can wait in line; later there may be room."""


class TrainingError(PatchLabError):
    """Training cannot start or cannot go on."""


class MissingExtraError(PatchLabError):
    """An optional library is not installed."""
