"""pydantic's errors as PatchLab's: one line of three parts, whatever was given."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from patchlab.errors import NotFoundError, PatchFormatError, PatchLabError
from patchlab.validation import told, within

STRICT = ConfigDict(strict=True, extra="forbid")


class Inner(BaseModel):
    model_config = STRICT
    id: str
    share: Annotated[float, within(0, 1)] = 0.5


class Outer(BaseModel):
    model_config = STRICT
    base: Inner
    parts: tuple[Inner, ...] = ()


def error_of(content: Any, **given: Any) -> PatchLabError:
    with pytest.raises(ValidationError) as found:
        Outer.model_validate(content)
    return told(found.value, what="manifest", **({"kind": PatchFormatError} | given))


@pytest.mark.parametrize(("content", "said"), [
    ({"base": {"id": 3}}, "manifest base.id: 3; expected a valid string; change base.id in the manifest"),
    ({"base": {"id": "x", "share": 2}}, "manifest base.share: 2; expected a number from 0 to 1; change base.share in"),
    ({"base": {}}, "a manifest without base.id; expected a value for base.id; add base.id"),
    ({"base": {"id": "x", "idd": 1}}, "manifest base.idd; expected no such key; remove it"),
    ({"base": {"id": "x"}, "parts": (3,)}, "manifest parts.0: 3;"),
    ([], "manifest: []; expected a valid dictionary or instance of Outer; change the manifest"),
])
def test_the_place_is_named_with_what_stood_there(content: Any, said: str) -> None:
    error = error_of(content)
    assert type(error) is PatchFormatError and str(error).startswith(said)
    assert error_of(content, do="load another patch").do == "load another patch"


def test_an_unknown_key_comes_first_with_its_neighbours() -> None:
    error = error_of({"base": {"id": 3}, "bsae": 1}, known=Outer.model_fields)
    assert isinstance(error, NotFoundError) and "did you mean 'base'?" in str(error)


def test_a_huge_value_or_one_that_holds_itself_makes_a_short_line() -> None:
    own: list[Any] = []
    own += [own] * 9
    doubled: Any = "x"
    for _ in range(40):
        doubled = [doubled, doubled]
    for value in (own, doubled, b"x" * 10**7, {"y" * 10**6: 1}):
        assert len(str(error_of({"base": {"id": value}}))) < 1000
    assert len(str(error_of({"base": {"id": "x", "k" * 10**6: 1}}))) < 300


def test_a_number_is_kept_as_it_was_written() -> None:
    assert repr(Inner(id="x", share=1).share) == "1"
