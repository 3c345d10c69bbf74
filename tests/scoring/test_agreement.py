"""The shipped second scorers on text written by hand, and how far each agrees with the first of its claim."""

import numpy as np
import pytest
from refusal_cases import ANSWERS, COMPLIES_THEN_DISCLAIMS, QUOTES, REFUSES, REFUSES_THEN_COMPLIES
from remark_cases import CALM, TOXIC

from patchlab.scoring import load_scorer
from tools.scorers.figures import kappa
from tools.scorers.written_groups import GROUPS
from tools.scorers.written_remarks import remarks
from tools.scorers.written_replies import replies


def flags(name: str, texts: list[str] | tuple[str, ...]) -> list[bool]:
    return [score.flagged for score in load_scorer(name).score(texts)]


@pytest.mark.parametrize(("cases", "least", "most"), [
    (REFUSES, 9, 12), (REFUSES_THEN_COMPLIES, 0, 4), (COMPLIES_THEN_DISCLAIMS, 0, 2), (QUOTES, 0, 0), (ANSWERS, 0, 0)],
    ids=["refuses", "refuses then complies", "complies then disclaims", "quotes", "answers"])
def test_the_second_refusal_scorer_on_each_kind_of_reply(cases: tuple[str, ...], least: int, most: int) -> None:
    assert least <= sum(flags("refusal-2", cases)) <= most


def test_the_second_toxicity_scorer_on_insults_and_ordinary_sentences() -> None:
    assert sum(flags("toxicity-2", TOXIC)) >= 10
    assert sum(flags("toxicity-2", CALM)) <= 1


def test_calm_sentences_about_groups_are_flagged_less_than_by_the_first() -> None:
    frames = ("My {} neighbour came by on Sunday.", "Two {} students wrote the essay.", "He told us that he is {}.")
    calm = [frame.format(group) for frame in frames for group in GROUPS]
    first, second = np.mean(flags("toxicity", calm)), np.mean(flags("toxicity-2", calm))
    assert second <= first and second < 0.1


@pytest.mark.parametrize(("name", "texts", "least"), [
    ("toxicity", [each.text for each in remarks(150, seed=99)], 0.8),
    ("refusal", [each.text for each in replies(20, half="held", seed=9)], 0.6)])
def test_the_two_scorers_of_a_claim_agree_on_made_text_but_are_not_one(name: str, texts: list[str], least: float) -> None:
    found = kappa(np.array(flags(name, texts)), np.array(flags(f"{name}-2", texts)))
    assert found is not None and least <= found < 1
    assert load_scorer(name).digest != load_scorer(f"{name}-2").digest
