"""pydantic's validation errors as PatchLab's: what was found, what was expected, what to do. Layer 0."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from patchlab.errors import InputError, NotFoundError, PatchLabError

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_SHORT = reprlib.Repr()  # a hostile value may be huge, or hold itself
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 80, 80, 2


def told(error: ValidationError, *, what: str, known: Iterable[str] = (), kind: type[PatchLabError] = InputError,
         do: str = "") -> PatchLabError:
    """The first of pydantic's errors as a `kind`; for an unknown key a NotFoundError with the nearest `known` keys.

    `what` names the thing validated ("recipe", "manifest"); `do` replaces "change KEY" as the way out.
    """
    first = min(error.errors(include_url=False, include_context=False), key=lambda each: each["type"] not in _UNKNOWN)
    place = ".".join(str(part) for part in first["loc"])[:80]
    if first["type"] in _UNKNOWN and known:
        return NotFoundError.of(f"{what} key", str(first["loc"][-1]), known)
    if first["type"] in _UNKNOWN:
        return kind(f"{what} {place}", expected="no such key", do=do or "remove it")
    if first["type"] == "missing":
        return kind(f"a {what} without {place}", expected=f"a value for {place}", do=do or f"add {place}")
    return kind(f"{what} {place}".strip() + f": {_SHORT.repr(first['input'])}",
                expected=first["msg"].removeprefix("Value error, ").removeprefix("Input should be "),
                do=do or (f"change {place} in the {what}" if place else f"change the {what}"))


def within(low: float, high: float) -> WrapValidator:
    """A number from `low` to `high`, kept as it was written: an int given for a float stays an int."""

    def check(value: Any, valid: Callable[[Any], float]) -> Any:
        if not low <= valid(value) <= high:
            raise PydanticCustomError("range", "{range}", {"range": f"a number from {low:g} to {high:g}"})
        return value

    return WrapValidator(check)
