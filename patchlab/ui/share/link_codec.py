"""The settings of a page as the query of its address, and back: `query` and `parsed` are inverses.

A link is written by anybody, so `parsed` never fails: it takes what it understands and says in words what it left out.

prompt kind system           what is asked, "chat" or "continue", and a system message
patches                      name@version:strength in order, joined by commas; "~" in front of one that is off
mode strength gates          how they are combined, the one strength of a sequence, 1 or 0
temperature length seed samples
preset profile tab           the models, a client's profile, the tab in front
run                          1: ask at once
ask                          short for prompt and run=1
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, get_args
from urllib.parse import parse_qsl, urlencode

from patchlab.errors import InputError, PatchLabError
from patchlab.patches.stack import MODES, Entry, Mode, Stack
from patchlab.records import Kind

LONGEST, SHOWN = 8000, 40  # characters of a link, as proxies let through; of what is left out, as a message repeats
MOST = 60  # parameters and patches
OFF = "~"
# names in an address that are not this page's settings: gradio's, the walkthrough's, and those that networks add
FOREIGN = ("__", "utm_", "view", "fbclid", "gclid", "session_hash")


class LinkPatch(NamedTuple):
    """A patch as a link has it: name, strength and version, and whether it is on."""

    entry: Entry
    on: bool = True


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a link says; None is what it does not say."""

    prompt: str | None = None
    kind: Kind | None = None
    system: str | None = None
    patches: tuple[LinkPatch, ...] | None = None
    mode: Mode | None = None
    strength: float | None = None
    gates: bool | None = None
    temperature: float | None = None
    length: int | None = None
    seed: str | None = None
    samples: int | None = None
    preset: str | None = None
    profile: str | None = None
    tab: str | None = None
    run: bool | None = None


def query(settings: LinkSettings) -> str:
    """The query of an address that says `settings`, without the "?". Raises InputError where it is too long for a link."""
    said = {each.name: value for each in fields(settings) if (value := getattr(settings, each.name)) is not None}
    made = urlencode({name: _written(value) for name, value in said.items()}, errors="replace")
    if len(made) > LONGEST:
        raise InputError(f"a link of {len(made):,} characters", expected=f"at most {LONGEST:,}", do="shorten the prompt")
    return made


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(("" if each.on else OFF) + str(each.entry) for each in value)
    return str(int(value)) if isinstance(value, bool) else str(value)


def parsed(text: str) -> tuple[LinkSettings, list[str]]:
    """The settings that a query says, and what it says that nobody understands, in words."""
    if len(text) > LONGEST + 1:
        return LinkSettings(), [f"all of its {len(text):,} characters (at most {LONGEST:,} are read)"]
    try:
        pairs = parse_qsl(text.removeprefix("?"), keep_blank_values=True, max_num_fields=MOST, errors="replace")
    except ValueError:
        return LinkSettings(), [f"all of its settings (at most {MOST} are read)"]
    found: dict[str, Any] = {}
    left: list[str] = []
    for name, value in pairs:
        if name == "ask":
            found |= {"prompt": value, "run": True}
        elif name in _READ and name not in found:
            try:
                found[name] = _READ[name](value)
            except (PatchLabError, ValueError):
                left.append(f"{name}={short(value)}")
        elif not name.startswith(FOREIGN):
            left.append(short(name))
    return LinkSettings(**found), left


def short(text: str) -> str:
    """The beginning of a text that somebody else wrote."""
    return f"“{text if len(text) <= SHOWN else text[:SHOWN - 1] + '…'}”"


def _patches(text: str) -> tuple[LinkPatch, ...]:
    found = tuple(_patch(part) for part in text.split(",")) if text else ()
    if len({each.entry.name for each in found}) < len(found) or len(found) > MOST:
        raise ValueError("a patch twice, or too many")
    return found


def _patch(text: str) -> LinkPatch:
    [entry] = Stack.parse(text.removeprefix(OFF)).entries  # a ValueError where it is none
    return LinkPatch(entry, not text.startswith(OFF))


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("not a number to set anything to")
    return value


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    return lambda text: words[words.index(text)]  # a ValueError for any other word


def _flag(text: str) -> bool:
    return bool(("0", "1").index(text))


_READ: Mapping[str, Callable[[str], Any]] = {
    "prompt": str, "kind": _one_of(get_args(Kind)), "system": str, "patches": _patches, "mode": _one_of(MODES),
    "strength": _number, "gates": _flag, "temperature": _number, "length": int, "seed": str, "samples": int,
    "preset": str, "profile": str, "tab": str, "run": _flag}
