"""Counting words: pronouns, gender, loops, unknown words."""

import pytest

from patchlab.scoring import distinct_n, first_pronoun, gendered_rate, gibberish, repetition

KNOWN = frozenset((
    "the", "a", "cat", "sat", "on", "mat", "and", "then", "went", "home", "to", "sleep", "in", "its", "warm", "basket",
    "dog", "was", "it", "is", "don"))


@pytest.mark.parametrize(("text", "expected"), [
    ("The nurse said she was tired, and he agreed.", "she"), ("HIS boots were wet.", "he"), ("They left early.", "they"),
    ("The theme of the sheet was heavy.", None), ("", None), ("he's late", "he"), ("A pilot and her plane", "she"),
    ("Ask the chef; he or she will know.", "they"), ("s/he signs here", "they"), ("She thinks he or she knows.", "she"),
    ("the surgeon helped themself", "they")])
def test_the_first_pronoun(text: str, expected: str | None) -> None:
    assert first_pronoun(text) == expected


def test_the_rate_of_gendered_words() -> None:
    assert gendered_rate("The woman met her brother.") == pytest.approx(3 / 5)
    assert gendered_rate("Nobody here has one.") == 0.0
    assert gendered_rate("12 !") == 0.0


def test_distinct_and_repeated_n_grams() -> None:
    assert distinct_n(["a b c d"], 2) == 1.0
    assert distinct_n(["a b", "a b"], 2) == 0.5
    assert distinct_n([""], 2) == 1.0
    assert repetition("a b c a b c a b c") == pytest.approx(1 - 3 / 7)
    assert repetition("a b") == 0.0


@pytest.mark.parametrize("text", [
    "The cat sat on the mat.", "", "The cat Mirella went home.", "Zog sat.", "It is 12 and 13 and 14.",
    "The cat's basket", "the cat, the cat",
    "A line.\n\nAnother mat --------- and so the cat went home.", "Don't sleep."])
def test_language_is_no_gibberish(text: str) -> None:
    assert not gibberish(text, KNOWN | {"so", "line", "another"})


@pytest.mark.parametrize("text", [
    "blorf snurk the wibble dax", "the cat the cat the cat the cat", "and and and and",
    "sat \ufffd mat", "the cat\x07 sat", "aaaaaaaaaaaa the cat",
    "cafÃ© the cat", "?!;:,.?!;:,.?!;:,.?!;:,.", "qwertyuiopasdfghjkl", "the cat sat on the mat " * 4])
def test_damage_is_gibberish(text: str) -> None:
    assert gibberish(text, KNOWN)
