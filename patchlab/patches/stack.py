"""A stack: which patches are on, at which strengths and how they are combined, as a frozen value with a text form.

Text form: NAME[@VERSION][:STRENGTH], joined by commas; "none" is the empty stack. `str` and `Stack.parse` are inverses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean
from typing import Literal, NoReturn, get_args

from patchlab.errors import NotFoundError, StackError
from patchlab.patches.manifest import MAX_STRENGTH, is_name, is_version

Mode = Literal["parallel", "sequential", "blend"]
Placement = Literal["turn", "front"]
MODES: tuple[Mode, ...] = get_args(Mode)
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
EMPTY = "none"
_STRENGTH = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One patch of a stack. Strength None is the patch's calibrated strength, version None the newest installed.

    Strength 0 is off, 1 is as trained, 4 is the maximum. Raises StackError.
    """

    name: str
    strength: float | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and is_name(self.name)):
            _bad_name(self.name)
        if self.version is not None and not (isinstance(self.version, str) and is_version(self.version)):
            raise StackError(f"patch {self.name!r} with version {str(self.version)[:80]!r}",
                             expected="a semantic version such as 1.0.0",
                             do=f"write {self.name}@1.0.0, or no @ for the newest")
        if self.strength is not None:
            number = isinstance(self.strength, (int, float)) and not isinstance(self.strength, bool)
            if not number or not 0 <= self.strength <= MAX_STRENGTH:  # also false for NaN
                _bad_strength(self.name, self.strength)
            object.__setattr__(self, "strength", float(self.strength) + 0.0)  # + 0.0 turns -0.0 into 0.0

    def __str__(self) -> str:
        version = "" if self.version is None else f"@{self.version}"
        strength = "" if self.strength is None else f":{repr(self.strength).removesuffix('.0')}"
        return f"{self.name}{version}{strength}"


def common_strength(strengths: Sequence[float]) -> float:
    """The strength of a sequence of patches with these calibrated strengths: their geometric mean, 1 without any.

    A sequence has one strength, whose logarithm is added to the attention scores of its slots, so logarithms are averaged.
    """
    return round(geometric_mean(strengths), 2) if strengths else 1.0


@dataclass(frozen=True, slots=True)
class Stack:
    """Patches in order, each once, with the mode that combines them. Methods return new stacks.

    With `gates` a patch that has a gate is off for prompts that its gate skips; otherwise gates are ignored. In sequential
    mode the patches share one strength: the nonzero strengths given must be equal and apply to all patches, and without any
    the strength is `common_strength` of the calibrated strengths of the patches that are on. In a conversation the patches stand
    right before the current turn, with `placement` "front" before all of it, where they fade as it grows. Raises StackError.
    """

    entries: tuple[Entry, ...] = ()
    mode: Mode = "parallel"
    gates: bool = False
    placement: Placement = "turn"

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise StackError(f"unknown placement {str(self.placement)[:80]!r}", expected=f"one of: {', '.join(PLACEMENTS)}",
                             do="choose one of those")
        if self.mode not in MODES:
            near = difflib.get_close_matches(str(self.mode), MODES, n=1)
            raise StackError(f"unknown stack mode {str(self.mode)[:80]!r}", expected=f"one of: {', '.join(MODES)}",
                             do=f"did you mean {near[0]!r}?" if near else "choose one of those")
        if not isinstance(self.entries, tuple) or not all(isinstance(entry, Entry) for entry in self.entries):
            raise StackError("stack entries that are not a tuple of Entry", expected="Entry values",
                             do="use Stack.parse('name:strength')")
        if not isinstance(self.gates, bool):
            raise StackError(f"gates {str(self.gates)[:80]!r}", expected="True or False", do="leave it out for False")
        if repeated := {name for name in self.names if self.names.count(name) > 1}:
            raise StackError(f"patch {min(repeated)!r} twice in one stack", expected="each patch once",
                             do="name it once, with a higher strength for a stronger effect")
        given = {entry.strength for entry in self.entries if entry.strength}
        if self.mode == "sequential" and len(given) > 1:
            shown = ", ".join(f"{strength:g}" for strength in sorted(given))
            raise StackError(f"strengths {shown} in a sequential stack", expected="one strength, shared by all its patches",
                             do="use mode parallel for a strength per patch")

    @classmethod
    def parse(cls, text: str, *, mode: Mode = "parallel", gates: bool = False, placement: Placement = "turn") -> Stack:
        """Parse text such as "toxicity,refusal@1.0.0:0.5". Raises StackError with the correct form."""
        if text.strip() in ("", EMPTY):
            return cls((), mode, gates, placement)
        return cls(tuple(_parse_entry(part.strip(), text) for part in text.split(",")), mode, gates, placement)

    @property
    def names(self) -> tuple[str, ...]:
        """The patches' names, in order."""
        return tuple(entry.name for entry in self.entries)

    def with_strength(self, name: str, strength: float | None) -> Stack:
        """This stack with patch `name` at `strength`, None for the calibrated one. Raises NotFoundError, StackError."""
        index = self._index(name)
        changed = replace(self.entries[index], strength=strength)
        return replace(self, entries=(*self.entries[:index], changed, *self.entries[index + 1:]))

    def without(self, name: str) -> Stack:
        """This stack without patch `name`. Raises NotFoundError."""
        index = self._index(name)
        return replace(self, entries=self.entries[:index] + self.entries[index + 1:])

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        return ",".join(str(entry) for entry in self.entries) or EMPTY

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise NotFoundError.of("patch in this stack", name, self.names)
        return self.names.index(name)


def _parse_entry(part: str, whole: str) -> Entry:
    if not part:
        raise StackError(f"an empty entry in the stack {whole[:80]!r}", expected="a patch between commas",
                         do="remove the comma without a patch beside it")
    if part == EMPTY:
        raise StackError(f"{EMPTY!r} together with patches in {whole[:80]!r}", expected=f"{EMPTY!r} alone, or patches",
                         do=f"remove {EMPTY!r}")
    left, colon, strength = part.partition(":")
    name, at, version = left.partition("@")
    if colon and not _STRENGTH.fullmatch(strength):
        _bad_strength(name, strength)
    return Entry(name, strength=float(strength) if colon else None, version=version if at else None)


def _bad_name(name: object) -> NoReturn:
    text = str(name)[:80]
    simple = re.sub(r"[^a-z0-9@:.]+", "-",
                    re.sub(r"\s*[=x*]\s*(?=[0-9.]+$)", ":", text.strip().lower())).strip("-")
    likely = is_name(re.split("[@:]", simple)[0]) and simple != text
    raise StackError(f"patch name {text!r}", expected="lower-case letters, digits and single hyphens",
                     do=f"did you mean {simple!r}?" if likely else "write it as NAME[@VERSION][:STRENGTH]")


def _bad_strength(name: object, strength: object) -> NoReturn:
    raise StackError(f"strength {str(strength)[:40]!r} for patch {str(name)[:80]!r}",
                     expected=f"a number from 0 (off) to {MAX_STRENGTH:g}",
                     do="write it as name:0.5, or leave it out for the calibrated strength")
