"""Errors say what was found, what was expected and what to do, in one line."""

from __future__ import annotations

import inspect

import pytest

from patchlab import errors
from patchlab.errors import (
    ContextError,
    InputError,
    NotFoundError,
    PatchFormatError,
    PatchLabError,
    TamperedError,
)
from patchlab.records import Prompt

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def test_the_message_is_one_line_with_its_three_parts_in_order() -> None:
    error = PatchLabError("a file\nof 3 lines", expected="one   line", do="join\tthem")
    assert str(error) == "a file of 3 lines; expected one line; join them"
    assert (error.found, error.expected, error.do) == ("a file\nof 3 lines", "one   line", "join\tthem")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_is_a_patchlab_error_and_stands_in_the_drawn_tree(kind: type[PatchLabError]) -> None:
    assert issubclass(kind, PatchLabError)
    tree = (errors.__doc__ or "").splitlines()
    drawn = [line.strip(" │├└─").split()[0] for line in tree if "Error" in line]
    assert drawn.count(kind.__name__) == 1
    with pytest.raises(PatchLabError, match=r"^x; expected y; z$"):
        raise kind("x", expected="y", do="z")


def test_the_narrow_errors_are_caught_as_their_wide_ones() -> None:
    assert issubclass(ContextError, InputError)
    assert issubclass(TamperedError, PatchFormatError)
    assert not issubclass(NotFoundError, InputError)


def test_near_names_are_suggested() -> None:
    error = NotFoundError.of("patch", "toxcity", ["refusal", "toxicity", "bias"])
    assert isinstance(error, NotFoundError)
    assert str(error) == ("unknown patch 'toxcity'; expected one of: bias, refusal, toxicity; "
                          "did you mean 'toxicity'?")


def test_several_near_names_are_all_suggested_nearest_first() -> None:
    error = NotFoundError.of("suite", "wino", ["winogender", "winobias", "xstest"])
    assert error.do == "did you mean 'winobias' or 'winogender'?"


def test_without_a_near_name_the_whole_choice_stands() -> None:
    error = NotFoundError.of("preset", "zzz", iter(["pocket", "llama"]))
    assert (error.expected, error.do) == ("one of: llama, pocket", "choose one of those")


def test_with_nothing_installed_the_error_says_so() -> None:
    assert "none is installed" in str(NotFoundError.of("patch", "toxicity", []))


def test_a_long_name_is_cut_and_stays_on_one_line() -> None:
    message = str(NotFoundError.of("patch", "a\n" + "x" * 1000, ["toxicity"]))
    assert "\n" not in message
    assert len(message) < 200


def test_a_prompt_of_an_unknown_kind_is_not_taken_for_one_to_go_on_from() -> None:
    with pytest.raises(InputError, match="a prompt of kind 'chta'; expected chat or continue"):
        Prompt("x", kind="chta")  # type: ignore[arg-type]
