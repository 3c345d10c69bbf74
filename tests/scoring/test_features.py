"""Laws of the hashed features: stable, and blind to spelling tricks."""

import numpy as np
import pytest

from patchlab.scoring.features import (
    BUCKETS,
    character_buckets,
    digest_of,
    normalise,
    tokens,
    word_buckets,
)
from patchlab.scoring.refusal_patterns import refusal_features, sentences, shape, unquoted
from patchlab.scoring.toxicity_features import toxicity_features


def test_buckets_are_the_same_on_every_machine() -> None:
    assert sorted(word_buckets(["hello", "sea"])) == [15746, 120861, 212532]
    assert digest_of([toxicity_features("Hello, world")]) == digest_of([toxicity_features("hello, WORLD")])


def test_each_group_has_unit_length_and_stays_in_range() -> None:
    index, value = toxicity_features("one two three")
    assert index.shape == value.shape and index.dtype == np.int64
    assert index.min() >= 0 and index.max() < BUCKETS
    assert float(value @ value) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_no_text_has_no_features(text: str) -> None:
    index, value = toxicity_features(text)
    assert len(index) == len(value) == 0


def test_invisible_characters_and_wide_letters_change_nothing() -> None:
    assert tokens("id\u200biot") == tokens("ＩＤＩＯＴ") == ["idiot"]
    assert normalise("Nooooo") == "noo"
    assert tokens("@someone see https://a.b/c") == ["¤", "see", "§"]


def test_a_disguised_word_keeps_its_characters() -> None:
    assert character_buckets(tokens("id1ot")) == character_buckets(tokens("idiot"))


def test_a_very_long_word_is_hashed_and_not_kept() -> None:
    index, _ = toxicity_features("ab" * 50_000)
    assert len(index) > 0


def test_lone_surrogates_and_nulls_are_hashed() -> None:
    assert len(toxicity_features("a\ud800b \x00")[0]) > 0
    assert len(refusal_features("a\ud800b \x00", "\udfff")[0]) > 0


def test_sentences_end_at_marks_and_lines_and_keep_a_bare_no() -> None:
    assert sentences("I saw it all. Then: rain!\n1. Wait\n* Go") == ["I saw it all.", "Then: rain!", "Wait", "* Go"]
    assert sentences("No. I will not come.") == ["No. I will not come."]
    assert sentences(" \n ") == []


def test_quotations_are_cut_out_but_not_marks_around_everything() -> None:
    plain, spans = unquoted('He said "I can\'t help" and left.')
    assert spans == ["I can't help"] and "can't" not in plain
    assert unquoted('"I can\'t help with that."') == ("I can't help with that.", [])
    assert unquoted("He shouted 'I won't help!' twice")[1] == ["I won't help!"]
    assert unquoted("It's Tom's dog")[1] == []


def test_the_shape_knows_where_a_refusal_stands() -> None:
    assert "first clear" in shape("I can't help with that. It is raining.")
    assert "rest clear" in shape("It is raining. I can't help with that.") and "first clear" not in shape("It is raining. Ok.")
    assert "quoted clear" in shape('The sign says "I can\'t help with that" in red.')
    assert "steps 2" in shape("Do this:\n1. Wait\n2. Go") and "steps 0" in shape("Do this at 2 o'clock.")


def test_a_prompt_adds_features_and_an_empty_one_does_not() -> None:
    alone = refusal_features("There is no reason to.")
    assert len(refusal_features("There is no reason to.", "Why should they?")[0]) > len(alone[0])
    assert len(refusal_features("There is no reason to.", "  ")[0]) == len(alone[0])
