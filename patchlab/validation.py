"""Frozen dataclasses checked by pydantic, and strict JSON parsing; failures become PatchLab errors in three parts. Layer 0.

    @checked("manifest", do="correct the field", error=PatchFormatError)
    @dataclass(frozen=True, slots=True, config=STRICT)     # pydantic's dataclass
    class Manifest: ...

`Manifest(...)`, `dataclasses.replace` and `parse` then raise PatchFormatError with the field, its value and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from patchlab.errors import PatchFormatError, PatchLabError
from patchlab.storage import json_object

T = TypeVar("T")
STRICT = ConfigDict(strict=True, extra="forbid")
_KEYS = {"missing": "no key", "unexpected_keyword_argument": "an unknown key"}
_AGAIN = "get the file again from where it came from"


class Unfit(ValueError):
    """Raised by a check: what was `expected`; `field` and `found` replace the field and value that pydantic reports."""

    def __init__(self, expected: str, *, field: str = "", found: str = "") -> None:
        super().__init__(expected)
        self.expected, self.field, self.found = expected, field, found


class _Words(NamedTuple):
    do: str
    error: type[PatchLabError]
    adapter: TypeAdapter[Any]


_WORDS: dict[type, _Words] = {}


def such(good: Callable[[Any], bool], expected: str) -> AfterValidator:
    """A check for `Annotated`: a value for which `good` is false raises Unfit with what was `expected`."""
    def check(value: Any) -> Any:
        if not good(value):
            raise Unfit(expected)
        return value

    return AfterValidator(check)


def one_line(limit: int) -> AfterValidator:
    """A check for `Annotated[str, ...]`: see `is_line`."""
    return such(lambda text: is_line(text, limit), f"one line of 1 to {limit} printable characters")


def is_line(text: str, limit: int) -> bool:
    """Whether `text` is 1 to `limit` printable characters without spaces at either end.

    Not printable are line breaks, which could forge parts of a card, direction marks and lone surrogates.
    """
    return 0 < len(text) <= limit and text.isprintable() and text == text.strip()


def checked(what: str, *, do: str, error: type[PatchLabError]) -> Callable[[type[T]], type[T]]:
    """A decorator for a pydantic dataclass: an invalid value raises `error` about `what`, with the advice `do`."""
    def decorate(kind: type[T]) -> type[T]:
        cls: Any = kind
        initial = cls.__init__
        positional = [each.name for each in fields(cls) if not each.kw_only]

        def init(self: Any, *values: Any, **named: Any) -> None:
            try:  # passed by name, so that errors name the field
                initial(self, *values[len(positional):], **dict(zip(positional, values, strict=False)), **named)
            except ValidationError as wrong:
                raise _refusal(wrong, _WORDS[kind], what) from None

        cls.__init__ = init
        _WORDS[kind] = _Words(do, error, TypeAdapter(kind))
        return kind

    return decorate


def parse(kind: type[T], data: bytes, *, where: str, schema: int | None = None) -> T:
    """Parse JSON bytes into a `checked` dataclass; `where` names the file in errors.

    With `schema` the key "schema" must have that value. Raises PatchFormatError as `parse_object`, and the class's own error.
    """
    value = parse_object(data, where=where)
    words = _WORDS[kind]
    version = value.get("schema")
    if schema is not None and not (type(version) is int and version == schema):
        raise words.error(f"{where} has schema {_show(version)}", expected=f"schema {schema}",
                          do=f"update PatchLab, or {words.do}")
    try:
        result: T = words.adapter.validate_json(data)
    except ValidationError as wrong:
        raise _refusal(wrong, words, where) from None
    if missing := [each.name for each in fields(result) if each.name not in value]:  # type: ignore[arg-type]  # a dataclass
        raise words.error(f"{where} has no key {missing[0]!r}", expected="every key of its format", do=words.do)
    return result


def dump(value: Any) -> dict[str, Any]:
    """A `checked` dataclass as plain JSON values, keys in the order of its fields."""
    result: dict[str, Any] = _WORDS[type(value)].adapter.dump_python(value, mode="json")
    return result


def parse_object(data: bytes, *, where: str) -> dict[str, Any]:
    """Parse one JSON object without duplicate keys and NaN; `where` names the file in errors. Raises PatchFormatError."""
    try:
        return json_object(data, nan=False)
    except ValueError as error:
        raise PatchFormatError(f"{where} {error}", expected="one plain JSON object in UTF-8", do=_AGAIN) from None


def _refusal(wrong: ValidationError, words: _Words, what: str) -> PatchLabError:
    """The PatchLab error for pydantic's: missing and unknown keys of one object together, else the first invalid field."""
    errors = wrong.errors(include_url=False)
    keys = sorted((error for error in errors if error["type"] in _KEYS), key=lambda error: error["type"] != "missing")
    if keys:
        parent = keys[0]["loc"][:-1]
        named = [f"{_KEYS[error['type']]} {_show(error['loc'][-1])}" for error in keys if error["loc"][:-1] == parent]
        return words.error(f"{what} {_path(parent)} has {' and '.join(named[:5])}", expected="exactly the keys of its format",
                           do=f"update PatchLab, or {words.do}")
    first = errors[0]
    unfit = first.get("ctx", {}).get("error")
    expected, shown, field = first["msg"].removeprefix("Input should be "), _show(first["input"]), ""
    if isinstance(unfit, Unfit):
        expected, shown, field = unfit.expected, unfit.found or shown, unfit.field
    elif first["type"] == "json_invalid":
        expected, shown = "JSON", str(unfit)[:80]
    path = _path((*first["loc"], *filter(None, [field])))
    return words.error(f"{what}{' field ' + path if path else ''} is {shown}", expected=expected, do=words.do)


def _path(loc: tuple[int | str, ...]) -> str:
    """A field's path, such as `evidence[0].value`."""
    parts = (f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{_show(step)}]" for step in loc
             if step != "[key]")
    return "".join(parts).removeprefix(".")


def _show(value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:80]
