"""Differences between two texts: nothing lost, nothing unescaped, nothing hidden."""

from __future__ import annotations

import html
import re

import pytest

from patchlab.ui.diff import changed, escaped, marked, pieces

TEXTS = ["", "one", "You are kind.", "You are a fool, a  real fool!", "<b>bold</b> & “quoted”", "it's\nnew\t line",
         "אבג שלום", "🙂 hello 🙂🙂"]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


@pytest.mark.parametrize("before", TEXTS)
@pytest.mark.parametrize("after", TEXTS)
def test_runs_joined_are_the_patched_text(before: str, after: str) -> None:
    assert "".join(run for run, _ in changed(before, after)) == after
    assert html.unescape(re.sub(r"</?mark[^>]*>", "", marked(before, after))) == after


@pytest.mark.parametrize("text", TEXTS)
def test_equal_texts_have_no_mark(text: str) -> None:
    assert "<mark" not in marked(text, text)


def test_only_words_that_differ_are_marked() -> None:
    runs = changed("The waiter is a rude man today.", "The waiter is a tired man today.")
    assert [run for run, differs in runs if differs] == ["tired"]


def test_a_changed_phrase_is_one_mark() -> None:
    runs = changed("He is lazy.", "He is doing his best.")
    assert [run for run, differs in runs if differs] == ["doing his best"]


def test_text_cannot_become_markup() -> None:
    attack = '<img src=x onerror="alert(1)"> & ${alert(1)}'
    for shown in (escaped(attack), marked("", attack), marked(attack, attack)):
        assert "<img" not in shown and '"' not in re.sub(r'<mark class="changed">', "", shown)


def test_control_and_direction_characters_are_shown_and_not_obeyed() -> None:
    shown = escaped("safe\u202egnol\x00\x1b[31m\nend")
    assert shown == "safe\ufffdgnol\ufffd\ufffd[31m\nend"
