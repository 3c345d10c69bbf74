"""A stack reads back as it was written, and every near miss says what was meant."""

from __future__ import annotations

import math
from typing import Any

import pytest

from patchlab.errors import NotFoundError, StackError
from patchlab.patches import Entry, Stack


@pytest.mark.parametrize("text", [
    "none", "toxicity", "toxicity:0.5", "toxicity:0", "toxicity:4", "toxicity@1.0.0",
    "a1-b2@1.0.0-rc.1+x-5:0.25",
    "toxicity,refusal@1.0.0:0.5,bias:2", "toxicity:1e-05", "toxicity:0.30000000000000004",
])
@pytest.mark.parametrize("mode", ["parallel", "blend"])
def test_text_to_stack_to_text_is_the_same(text: str, mode: Any) -> None:
    stack = Stack.parse(text, mode=mode)
    assert str(stack) == text
    assert Stack.parse(str(stack), mode=mode) == stack


@pytest.mark.parametrize(("text", "same"), [
    ("", "none"), ("  none ", "none"), (" toxicity , refusal ", "toxicity,refusal"),
    ("toxicity:1.0", "toxicity:1"),
    ("toxicity:.5", "toxicity:0.5"), ("toxicity:-0", "toxicity:0"), ("toxicity:+5e-1", "toxicity:0.5"),
])
def test_other_spellings_mean_the_same(text: str, same: str) -> None:
    assert str(Stack.parse(text)) == same


def test_an_empty_stack_is_false_and_a_full_one_counts() -> None:
    assert not Stack.parse("none") and len(Stack()) == 0
    stack = Stack.parse("toxicity:0,refusal")
    assert stack and len(stack) == 2 and stack.names == ("toxicity", "refusal")
    assert stack.entries == (Entry("toxicity", 0.0), Entry("refusal"))


@pytest.mark.parametrize(("text", "hint"), [
    ("Toxicity", "did you mean 'toxicity'"), ("toxicity=0.5", "did you mean 'toxicity:0.5'"),
    ("toxicity x0.5", "did you mean 'toxicity:0.5'"), ("over_refusal", "did you mean 'over-refusal'"),
    ("toxicity refusal", "did you mean 'toxicity-refusal'"), ("../../etc", "lower-case"),
    ("1st", "lower-case"),
    ("toxicity,,refusal", "remove the comma"), ("toxicity,", "remove the comma"), (",", "remove the comma"),
    ("toxicity,none", "remove 'none'"), ("toxicity:", "0.5"), ("toxicity:half", "0.5"),
    ("toxicity:0.5:1", "0.5"),
    ("toxicity:nan", "from 0"), ("toxicity:inf", "from 0"), ("toxicity:-0.1", "from 0"),
    ("toxicity:4.01", "to 4"),
    ("toxicity:1e999", "to 4"), ("toxicity:1_0", "a number"), ("toxicity:\u0661", "a number"),
    ("toxicity@", "semantic version"), ("toxicity@1", "semantic version"), ("toxicity:0.5@1.0.0", "0.5"),
    ("toxicity,refusal,toxicity:0.5", "name it once"),
])
def test_a_near_miss_says_how_to_write_it(text: str, hint: str) -> None:
    with pytest.raises(StackError, match=hint) as caught:
        Stack.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strength", [-1, 4.5, math.nan, math.inf, True, "1", 10**400])
def test_a_strength_out_of_range_is_refused(strength: Any) -> None:
    with pytest.raises(StackError, match="strength"):
        Entry("toxicity", strength)
    with pytest.raises(StackError, match="strength"):
        Stack.parse("toxicity").with_strength("toxicity", strength)


def test_an_unknown_mode_is_refused_with_the_near_one() -> None:
    with pytest.raises(StackError, match="did you mean 'parallel'"):
        Stack.parse("toxicity", mode="paralel")  # type: ignore[arg-type]


def test_a_sequential_stack_has_one_strength() -> None:
    assert str(Stack.parse("a:0.5,b:0.5", mode="sequential")) == "a:0.5,b:0.5"
    assert str(Stack.parse("a:0.5,b", mode="sequential")) == "a:0.5,b"
    with pytest.raises(StackError, match=r"strengths 0.5, 1 .* use mode parallel"):
        Stack.parse("a:0.5,b:1", mode="sequential")
    assert str(Stack.parse("a:0.5,b", mode="sequential").with_strength("b", 0)) == "a:0.5,b:0"


def test_gates_are_heeded_or_not_and_nothing_between() -> None:
    with pytest.raises(StackError, match="gates 'off'; expected True or False"):
        Stack.parse("a", gates="off")  # type: ignore[arg-type]


def test_changes_give_new_stacks() -> None:
    stack = Stack.parse("a,b:0.5,c@1.0.0", mode="blend")
    assert str(stack.with_strength("a", 2)) == "a:2,b:0.5,c@1.0.0"
    assert str(stack.with_strength("b", None)) == "a,b,c@1.0.0"
    assert str(stack.without("b")) == "a,c@1.0.0"
    assert str(stack.without("a").without("b").without("c")) == "none"
    assert stack.without("a").mode == stack.with_strength("a", 1).mode == "blend"
    assert str(stack) == "a,b:0.5,c@1.0.0"


def test_a_name_not_in_the_stack_is_answered_with_the_near_one() -> None:
    stack = Stack.parse("toxicity,refusal")
    for change in (lambda: stack.with_strength("toxicty", 1), lambda: stack.without("toxicty")):
        with pytest.raises(NotFoundError, match="did you mean 'toxicity'"):
            change()
