"""What pydantic finds wrong becomes one line of three parts, at the right place, whatever was given."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic.dataclasses import dataclass

from patchlab.errors import InputError, PatchFormatError
from patchlab.validation import STRICT, checked, dump, one_line, parse


@checked("part", do="mend the part", error=InputError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Part:
    """One part."""

    id: Annotated[str, one_line(5)]
    share: float = 0.5


@checked("whole", do="mend the whole", error=InputError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Whole:
    """All parts."""

    parts: tuple[Part, ...]
    schema: int = 1


@pytest.mark.parametrize(("text", "said"), [
    ('{"parts": [{"id": "a b c d"}]}', "f.json field parts[0].id is 'a b c d'; expected one line of 1 to 5 printable"),
    ('{"parts": [{"id": "x", "share": "1"}]}', "f.json field parts[0].share is '1'; expected a valid number; mend the whole"),
    ('{"parts": [{"share": 1, "idd": 1}]}', "f.json parts[0] has no key 'id' and an unknown key 'idd'"),
    ('{"parts": {}}', "f.json field parts is a dict of 0;"), ('{"schema": 1}', "f.json has no key 'parts'"),
    ('{"parts": []}', "f.json has no key 'schema'"), ('{"parts": [], "schema": true}', "f.json field schema is True;"),
])
def test_the_place_in_a_file_is_named_with_what_stood_there(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(Whole, text.encode(), where="f.json")
    assert " ".join(str(caught.value).split()).startswith(said)


def test_a_value_made_in_python_is_checked_too_and_says_of_what_kind_it_is() -> None:
    part = Part("x", 1)
    assert (part.share, dump(part), replace(part, id="y")) == (1.0, {"id": "x", "share": 1.0}, Part("y", 1.0))
    for make in (lambda: Part("two\nlines"), lambda: replace(part, id="two\nlines"), lambda: Part(id="two\nlines")):
        with pytest.raises(InputError, match=r"part field id is 'two\\nlines'; .*; mend the part"):
            make()
    with pytest.raises(InputError, match=r"whole field parts\[0\] is a dict"):
        Whole(({"id": "x"},))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["y" * 10**6, {"k" * 10**6: 1}, [[[]]] * 10**5, b"x" * 10**6])
def test_a_huge_value_makes_a_short_line(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Part(value)
    assert len(str(caught.value)) < 300
    with pytest.raises(InputError) as caught:
        Part("x", **{"k" * 10**6: 1})  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_a_schema_of_the_future_is_said_to_be_one() -> None:
    for schema in ("2", "true", "1.0", "null"):
        with pytest.raises(InputError, match="expected schema 1; update PatchLab, or mend the whole"):
            parse(Whole, f'{{"parts": [], "schema": {schema}}}'.encode(), where="f.json", schema=1)
    assert parse(Whole, b'{"parts": [], "schema": 1}', where="f.json", schema=1) == Whole(())
    with pytest.raises(PatchFormatError, match="the key 'parts' twice"):
        parse(Whole, b'{"parts": [], "parts": [], "schema": 1}', where="f.json")
