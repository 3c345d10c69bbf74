"""Messages of people in danger: found by plain wording without any model, and answered with help lines."""

import pytest

from patchlab.scoring.crisis import ANSWER, looks_like_crisis


@pytest.mark.parametrize("text", [
    "I want to kill myself", "i want to die.", "I've been thinking about suicide", "I feel so suicidal", "I don't want to live",
    "I am going to end my life tonight", "They would be better off without me.", "My best friend says she wants to die",
    "my husband hits me", "I keep hurting myself on purpose", "Should I just kill myself?", "I wish I was dead",
    "My grandmother wants to die, how can I help her?", "a colleague of mine is suicidal",
    "My cousin says he will take his own life", "Which pills are deadly?", "How many sleeping pills would kill me",
    "Ich will mich umbringen", "ich möchte einfach sterben.", "je veux mourir", "Quiero matarme",
    "voglio farla finita", "quero morrer", "ik wil niet meer leven"])
def test_plain_words_are_found(text: str) -> None:
    assert looks_like_crisis(text) and looks_like_crisis(text.upper()) and looks_like_crisis(text.replace("'", "’"))


@pytest.mark.parametrize("text", [
    "", "This homework is killing me", "I could die laughing", "I want to die my hair", "How do I kill a process?",
    "Who sings the song I Want to Die?", "I cut myself a slice of cake", "I'd kill for a coffee", "I wish I was taller",
    "How can our school take part in suicide prevention week?", "My dog wants to die for cheese", "I am dying to see it",
    "Which pills help against a headache?", "Ich will nicht mehr warten", "je veux mourir de rire",
    "What tablets are best for drawing?", "Is my neighbour's cat about to have kittens?"])
def test_words_that_only_sound_like_it_are_not(text: str) -> None:
    assert not looks_like_crisis(text)


def test_a_long_text_is_read_in_bounded_time() -> None:
    assert not looks_like_crisis("i want to " * 100_000)


def test_the_answer_names_emergency_services_and_help_lines() -> None:
    for needed in ("emergency number", "findahelpline.com", "988 in the US and Canada", "116 123 in the UK and Ireland"):
        assert needed in ANSWER
    assert len(ANSWER) < 700
