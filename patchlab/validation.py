"""Frozen values checked by pydantic, and JSON from strangers; what is wrong becomes an error in three parts. Layer 0.

    @checked("manifest", do="correct the field", error=PatchFormatError)
    @dataclass(frozen=True, slots=True, config=STRICT)     # pydantic's dataclass
    class Manifest: ...

`Manifest(...)`, `dataclasses.replace` and `parse` then raise PatchFormatError, which names the field, what it holds and what
it should hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple, NoReturn, TypeVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from patchlab.errors import PatchFormatError, PatchLabError

T = TypeVar("T")
STRICT = ConfigDict(strict=True, extra="forbid")
_KEYS = {"missing": "no key", "unexpected_keyword_argument": "an unknown key"}
_AGAIN = "get the file again from where it came from"


class Unfit(ValueError):
    """Raised inside a check: what was `expected`, and `field` and `found` where they are not those pydantic knows."""

    def __init__(self, expected: str, *, field: str = "", found: str = "") -> None:
        super().__init__(expected)
        self.expected, self.field, self.found = expected, field, found


class _Words(NamedTuple):
    what: str
    do: str
    error: type[PatchLabError]
    adapter: TypeAdapter[Any]


_WORDS: dict[type, _Words] = {}


def such(good: Callable[[Any], bool], expected: str) -> AfterValidator:
    """A check for `Annotated`: a value that is not `good` is refused, with what was `expected`."""
    def check(value: Any) -> Any:
        if not good(value):
            raise Unfit(expected)
        return value

    return AfterValidator(check)


def one_line(limit: int) -> AfterValidator:
    """A check for `Annotated[str, ...]`: see `is_line`."""
    return such(lambda text: is_line(text, limit), f"one line of 1 to {limit} printable characters")


def is_line(text: str, limit: int) -> bool:
    """Whether `text` is 1 to `limit` printable characters without spaces around them.

    Line breaks, which could forge parts of a card, direction marks and lone surrogates are not printable.
    """
    return 0 < len(text) <= limit and text.isprintable() and text == text.strip()


def checked(what: str, *, do: str, error: type[PatchLabError]) -> Callable[[type[T]], type[T]]:
    """A decorator over pydantic's dataclass: a wrong value raises `error`, which names `what` and says what to `do`."""
    def decorate(kind: type[T]) -> type[T]:
        made: Any = kind
        initial = made.__init__

        def init(self: Any, *values: Any, **named: Any) -> None:
            try:
                initial(self, *values, **named)
            except ValidationError as wrong:
                raise _refusal(wrong, _WORDS[kind], what) from None

        made.__init__ = init
        _WORDS[kind] = _Words(what, do, error, TypeAdapter(kind))
        return kind

    return decorate


def parse(kind: type[T], data: bytes, *, where: str, schema: int | None = None) -> T:
    """The value of a `checked` kind in JSON bytes; `where` names the file in errors.

    With `schema` the object must have that number under the key "schema". Raises PatchFormatError as `parse_object`, and the
    kind's error.
    """
    value = parse_object(data, where=where)
    words = _WORDS[kind]
    found = value.get("schema")
    if schema is not None and not (type(found) is int and found == schema):
        raise words.error(f"{where} has schema {_show(found)}", expected=f"schema {schema}",
                          do=f"update PatchLab, or {words.do}")
    try:
        made: T = words.adapter.validate_json(data)
    except ValidationError as wrong:
        raise _refusal(wrong, words, where) from None
    if missing := [each.name for each in fields(made) if each.name not in value]:  # type: ignore[arg-type]  # a dataclass
        raise words.error(f"{where} has no key {missing[0]!r}", expected="every key of its format", do=words.do)
    return made


def dump(value: Any) -> dict[str, Any]:
    """A checked value as plain JSON values, keys in the order of its fields."""
    found: dict[str, Any] = _WORDS[type(value)].adapter.dump_python(value, mode="json")
    return found


def parse_object(data: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object in `data`; `where` names the file in errors.

    Raises PatchFormatError for anything but one strictly written UTF-8 object: duplicate keys, NaN and nesting too deep for
    the parser are refused.
    """
    def refuse(found: str) -> NoReturn:
        raise PatchFormatError(f"{where} {found}", expected="one plain JSON object in UTF-8", do=_AGAIN)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Of two equal keys some readers keep the first, others the last: two programs would see two files.
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                refuse(f"has the key {key[:80]!r} twice")
            seen[key] = value
        return seen

    def constant(name: str) -> NoReturn:
        refuse(f"has the number {name}")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError:
        refuse("is not UTF-8")
    except RecursionError:
        refuse("is nested too deeply")
    except ValueError as error:  # JSONDecodeError, and integers too long to convert
        refuse(f"is not JSON ({str(error)[:120]})")
    if not isinstance(value, dict):
        refuse(f"holds a {type(value).__name__}")
    return value


def _refusal(wrong: ValidationError, words: _Words, what: str) -> PatchLabError:
    """The error of a kind for what pydantic found: wrong keys of one object together, else the first wrong field."""
    found = wrong.errors(include_url=False)
    keys = sorted((each for each in found if each["type"] in _KEYS), key=lambda each: each["type"] != "missing")
    if keys:
        inside = keys[0]["loc"][:-1]
        named = [f"{_KEYS[each['type']]} {_show(each['loc'][-1])}" for each in keys if each["loc"][:-1] == inside]
        return words.error(f"{what} {_path(inside)} has {' and '.join(named[:5])}", expected="exactly the keys of its format",
                           do=f"update PatchLab, or {words.do}")
    first = found[0]
    unfit = first.get("ctx", {}).get("error")
    expected, shown, field = first["msg"].removeprefix("Input should be "), _show(first["input"]), ""
    if isinstance(unfit, Unfit):
        expected, shown, field = unfit.expected, unfit.found or shown, unfit.field
    elif first["type"] == "json_invalid":
        expected, shown = "JSON", str(unfit)[:80]
    path = _path((*first["loc"], *filter(None, [field])))
    return words.error(f"{what}{' field ' + path if path else ''} is {shown}", expected=expected, do=words.do)


def _path(loc: tuple[int | str, ...]) -> str:
    """Where in a value, as `evidence[0].value`."""
    parts = (f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{_show(step)}]" for step in loc
             if step != "[key]")
    return "".join(parts).removeprefix(".")


def _show(value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:80]
