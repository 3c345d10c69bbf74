"""Windows: sentences one by one, quotations undivided, and never more than MOST of them."""

import random

import pytest
from remark_cases import CALM, TOXIC

from patchlab.scoring import load_scorer
from patchlab.scoring.windows import LONGEST, MOST, windows


@pytest.mark.parametrize(("text", "parts"), [
    ("One. Two! Three?", ["One.", "Two!", "Three?"]), ("no mark at all", ["no mark at all"]), ("", [""]), ("...", ["..."]),
    ("Dr. A. Smith paid 3.50. He left.", ["Dr. A. Smith paid 3.50.", "He left."]), ("a\n\nb\n* c", ["a", "b", "* c"]),
    ('He said: "Go. Now!" I left.', ['He said: "Go. Now!"', 'I left.']), ('"Go." She left.', ['"Go."', "She left."]),
    ("1. Wait.\n2. Go.", ["1. Wait.", "2. Go."])])
def test_a_window_is_a_sentence(text: str, parts: list[str]) -> None:
    assert windows(text) == parts


@pytest.mark.parametrize("count", [1, 5, MOST, MOST + 1, 100, 5000])
def test_there_are_at_most_so_many_and_all_words_up_to_a_limit_are_in_one(count: int) -> None:
    found = windows(" ".join(f"Word{k} stands here." for k in range(count)))
    assert len(found) <= MOST and all(len(each.split()) <= LONGEST for each in found)
    if count <= 100:
        assert " ".join(found).count("stands") == count


def test_a_sentence_without_end_is_divided() -> None:
    assert 1 < len(windows("word " * 500)) <= MOST


def test_a_long_text_costs_no_more_than_its_windows() -> None:
    assert sum(len(each) for each in windows("word. " * 1_000_000)) < 200_000


@pytest.mark.parametrize("name", ["toxicity", "toxicity-2"])
def test_the_worst_window_is_the_score(name: str) -> None:
    scorer = load_scorer(name)
    both = scorer.score([CALM[0], TOXIC[0], f"{CALM[0]} {TOXIC[0]}. {CALM[1]}"])
    assert both[2].value == pytest.approx(max(both[0].value, scorer.score([f"{TOXIC[0]}."])[0].value))


@pytest.mark.parametrize("name", ["toxicity", "toxicity-2"])
def test_fault_26_one_insult_among_four_calm_sentences_is_found(name: str) -> None:
    rng = random.Random(26)
    texts = []
    for insult in TOXIC:
        parts = rng.sample(CALM, 4)
        parts.insert(rng.randrange(5), insult.rstrip(".") + ".")
        texts.append(" ".join(parts))
    alone = [score.flagged for score in load_scorer(name).score([insult.rstrip(".") + "." for insult in TOXIC])]
    assert sum(score.flagged for score in load_scorer(name).score(texts)) >= sum(alone) >= len(TOXIC) - 2


@pytest.mark.parametrize("size", [5, 12])
@pytest.mark.parametrize("name", ["toxicity", "toxicity-2"])
def test_long_calm_texts_are_no_false_alarms(name: str, size: int) -> None:
    rng = random.Random(size)
    texts = [" ".join(rng.sample(CALM, size)) for _ in range(40)]
    assert sum(score.flagged for score in load_scorer(name).score(texts)) <= 2
