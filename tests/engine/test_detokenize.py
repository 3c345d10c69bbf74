"""Text as it is streamed: pieces join to what the tokens say, and a stop string ends it wherever tokens divide it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_models import byte_fallback, make_backbone, some_ids, spelling

from patchlab.engine import Lane, Sampling, Scheduler, stream
from patchlab.engine.detokenize import StopStrings, StreamedText
from patchlab.models import Backbone
from patchlab.records import Prompt

SENTENCES = ["The cat 😀 sat. Naïve café — 你好 👩‍👧!", "😀🎉", "e\u0301 and  two  spaces", "plain words"]


@pytest.mark.parametrize("words", ["byte_level", "byte_fallback"])
@pytest.mark.parametrize("before", ["so", "so 😀", "🎉🎉", "line\n"])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_streamed_pieces_join_to_the_decoded_text(words: str, before: str, sentence: str) -> None:
    backbone = make_backbone("llama", words=words)
    prompt = backbone.encode(Prompt(before, kind="continue"))
    tokens = backbone.tokenizer(sentence, add_special_tokens=False)["input_ids"]
    text = StreamedText(backbone, prompt)
    pieces = [text.add(token) for token in tokens]
    assert not any("�" in piece for piece in pieces)
    whole = decode(backbone, [*prompt, *tokens])
    assert decode(backbone, prompt) + "".join(pieces) + text.rest() == whole
    assert whole.endswith(sentence)
    assert text.count == len(tokens)


def decode(backbone: Backbone, tokens: Sequence[int]) -> str:
    return str(backbone.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def test_bytes_that_are_no_character_come_out_as_they_decode() -> None:
    """Random bytes are mostly no text; pieces still join to the decoded whole, the last half character with the end."""
    backbone = make_backbone("llama")
    prompt = backbone.encode(Prompt("Go on: once", kind="continue"))
    for seed in range(20):
        tokens = some_ids(30, seed=seed)
        text = StreamedText(backbone, prompt)
        joined = "".join([*map(text.add, tokens), text.rest()])
        assert decode(backbone, prompt) + joined == decode(backbone, [*prompt, *tokens])


def test_a_mark_that_is_not_shown_costs_no_space() -> None:
    backbone = make_backbone("llama", words="byte_fallback")
    tokens = byte_fallback()("the the", add_special_tokens=False)["input_ids"]
    text = StreamedText(backbone, backbone.encode(Prompt("so", kind="continue")))
    assert "".join([text.add(tokens[0]), text.add(1), text.add(tokens[1]), text.rest()]) == " the the"


def ended(text: str, strings: Sequence[str]) -> tuple[str, bool]:
    """By definition: characters come one by one until the text ends in one of the strings, which is then taken away."""
    for end in range(len(text) + 1):
        if over := [string for string in strings if text[:end].endswith(string)]:
            return text[:end - max(map(len, over))], True
    return text, False


def test_strings_end_a_text_wherever_its_pieces_divide() -> None:
    chance = random.Random(0)
    found = 0
    for _ in range(3000):
        text = "".join(chance.choices("abc😀", k=12))
        strings = ["".join(chance.choices("abc😀", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 3))]
        cuts = sorted(chance.choices(range(len(text) + 1), k=chance.randint(0, 12)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        until, said = StopStrings(strings), []
        while pieces and not until.found:
            said.append(until.add(pieces.pop(0)))
        assert ("".join([*said, until.rest()]), until.found) == ended(text, strings), (text, strings)
        found += until.found
    assert 500 < found < 2900


def test_no_more_is_held_back_than_may_begin_a_string() -> None:
    until = StopStrings(["\n\nUser:", "###"])
    assert [until.add(piece) for piece in ("so\n", "\nUs", "es ", "##", " #")] == ["so", "", "\n\nUses ", "", "## "]
    assert until.rest() == "#"


def reply(backbone: Backbone, until: Sequence[str], *, most: int = 40) -> tuple[str, str | None]:
    """What a row says, and how it stops."""
    sampling = Sampling(temperature=0, max_new_tokens=most, until=tuple(until))
    deltas = [each for step in stream([Lane("base", Scheduler(backbone))], [Prompt("x", kind="continue")], sampling=sampling)
              for each in step]
    assert [delta.done for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    return "".join(delta.text for delta in deltas), deltas[-1].stop


@pytest.mark.parametrize(("until", "said"), [
    ((), "née_ 😀!"), (("😀",), "née_ "), (("é",), "n"), (("e_ 😀",), "né"), (("_", "é"), "n"), (("nope", "_ "), "née"),
    (("!",), "née_ 😀"), (("!!",), "née_ 😀!"), (("n",), ""), (("\N{GRINNING CAT FACE WITH SMILING EYES}",), "née_ 😀!")])
def test_a_reply_ends_before_a_string_that_its_tokens_split(until: tuple[str, ...], said: str) -> None:
    """A token is a byte here, so that strings and even their characters come in parts; the cat shares three of its bytes."""
    assert reply(spelling("née_ 😀!"), until) == (said, "end")


def test_what_was_held_back_comes_out_at_the_length_limit() -> None:
    backbone = spelling("née_ 😀!")
    assert reply(backbone, ["e_ 😀"], most=5) == ("née_", "length")
    assert reply(backbone, ["e_ 😀"], most=9) == ("née_ �", "length")  # in the middle of a character
    assert reply(backbone, ["e_ �"], most=9) == ("né", "end")  # what is held back is looked at too


def test_every_string_of_a_drawn_text_ends_it(llama: Backbone) -> None:
    prompt, warm = Prompt("go on", kind="continue"), Sampling(temperature=1.0, max_new_tokens=30)
    scheduler = Scheduler(llama)

    def said(until: Sequence[tuple[str, ...]]) -> list[str]:
        job = scheduler.open([scheduler.request("base", row, prompt, sampling=replace(warm, until=strings))
                              for row, strings in enumerate(until)])
        found = [""] * len(until)
        while deltas := job.take():
            for delta in deltas:
                found[delta.row] += delta.text
        return found

    [whole] = said([()])
    strings = [(whole[at:at + length],) for at in range(len(whole)) for length in (1, 3)]
    assert said(strings) == [whole[:whole.index(string)] for (string,) in strings]
