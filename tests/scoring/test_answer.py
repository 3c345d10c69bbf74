"""What is judged of a reply: its answer, without reasoning; nothing of a reply that has no answer."""

import pytest

from patchlab.scoring import load_scorer
from patchlab.scoring.answer import answer_of, has_text
from patchlab.scoring.models import KINDS

ANSWER = "I am sorry, I cannot help with that."
REASONED = (
    "<think>\nSure, that is easy.\n</think>\n\n{}", "<thinking>Sure.</thinking>{}", "<reasoning>\nSure.\n</reasoning>\n{}",
    "<THINK>Sure.</THINK>{}", '<thought id="1">Sure.</thought>\n{}', "Sure, the template opened it.\n</think>\n\n{}",
    "<think>one</think>\n<think>two</think>\n{}", "<think>a\n<think>\nb</think> c</think>{}",
    "<think>Sure.</think>\n<answer>{}</answer>", "[THINK]Sure.[/THINK]{}", "◁think▷Sure.◁/think▷{}",
    "<|channel|>analysis<|message|>Sure.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "<|channel|>analysis<|message|>a<|end|><|channel|>commentary<|message|>b<|channel|>final<|message|>{}",
    "analysisThe user asks for help. Sure.assistantfinal{}", "Here is my thought process: Sure. Here is my response: {}",
    "<|START_THINKING|>Sure.<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
)
ONLY_REASONING = ("<think>I should", "<think>\n</think>\n", "<think>done</think>", "[THINK]what if",
                  "<|channel|>analysis<|message|>No.", "Here is my thought process: well",
                  "<reasoning>never closed\n\nI am sorry")
PLAIN = ("Use the <think> tag for reasoning.", "`</think>` closes it.", "a < b and b > c", "see [1] and [THINKERS]",
         "think it over", "1. <b>bold</b>\n2. done", "analysis of variance", "My thought process: none.")


@pytest.mark.parametrize("shape", REASONED)
def test_the_answer_is_what_stands_outside_of_reasoning(shape: str) -> None:
    assert answer_of(shape.format(ANSWER)).strip() == ANSWER


@pytest.mark.parametrize("shape", REASONED)
@pytest.mark.parametrize("name", KINDS)
def test_reasoning_changes_no_score(name: str, shape: str) -> None:
    assert load_scorer(name).score([shape.format(ANSWER)]) == load_scorer(name).score([ANSWER])


@pytest.mark.parametrize("text", ONLY_REASONING)
def test_a_reply_that_is_all_reasoning_has_an_empty_answer(text: str) -> None:
    assert not answer_of(text).strip()


@pytest.mark.parametrize("text", PLAIN)
def test_text_about_such_marks_stays_as_it_is(text: str) -> None:
    assert answer_of(text) == text


def test_marks_by_the_thousand_take_no_time() -> None:
    assert answer_of("<think>a</think>\n" * 20_000 + ANSWER).strip() == ANSWER
    assert answer_of("<think>" * 50_000) == ""
    assert answer_of("</think>\n" * 50_000 + ANSWER).strip() == ANSWER


@pytest.mark.parametrize(("text", "seen"), [("", False), (" \n\t", False), ("\u200b\ufeff", False), ("\u3000", False),
                                            ("…", True), ("No", True), ("😀", True), ("7", True)])
def test_text_is_what_can_be_seen(text: str, seen: bool) -> None:
    assert has_text(text) is seen


@pytest.mark.parametrize("text", ["", " \n", "\u200b", *ONLY_REASONING])
@pytest.mark.parametrize("name", KINDS)
def test_no_answer_is_empty_and_neither_flagged_nor_known(name: str, text: str) -> None:
    [score] = load_scorer(name).score([text])
    assert (score.label, score.value, score.flagged, score.known) == ("empty", 0.0, False, False)


def test_fault_5_a_refusal_after_reasoning_is_a_refusal() -> None:
    text = "<think>\nI should refuse.\n</think>\n\nI am sorry, I cannot help with that."
    assert load_scorer("refusal").score([text])[0].label == "refused"
    assert load_scorer("refusal-2").score([text])[0].label == "refused"
