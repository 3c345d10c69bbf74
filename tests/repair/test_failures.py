"""A failure's words, their tokens, and prompts without some of them."""

from __future__ import annotations

import copy

import pytest
from made_models import make_backbone

from patchlab.errors import InputError, ModelError
from patchlab.models import Backbone
from patchlab.models.quantization import MARK
from patchlab.records import Message, Prompt
from patchlab.repair import Failure

TEXT = "Current year:  2024, über ☃ all the cats"


def failure(backbone: Backbone, text: str = TEXT, **more: object) -> Failure:
    return Failure(backbone, Prompt(text, **more), "so it is")  # type: ignore[arg-type]


@pytest.mark.parametrize("words", ["byte_level", "byte_fallback"])
def test_words_know_their_tokens(words: str) -> None:
    """Of a tokenizer of bytes and of one of word pieces, with and without a chat template."""
    backbone = make_backbone("llama", words=words)
    found = failure(backbone)
    ids = backbone.encode(found.cleaned)
    assert [word.text for word in found.words] == TEXT.split()
    for word in found.words:
        assert backbone.tokenizer.decode([ids[k] for k in word.tokens]).strip() == word.text
        assert TEXT[word.first:word.last] == word.text


def test_words_of_a_conversation_are_those_of_the_user_and_the_system(llama: Backbone) -> None:
    found = failure(llama, "and now", system="be kind", earlier=(Message("user", "and so"), Message("assistant", "it was")))
    ids = llama.encode(found.cleaned)
    assert [word.text for word in found.words] == ["be", "kind", "and", "so", "and", "now"]
    assert [llama.tokenizer.decode([ids[k] for k in word.tokens]).strip() for word in found.words] == [
        word.text for word in found.words]
    assert len({token for word in found.words for token in word.tokens}) == sum(len(word.tokens) for word in found.words)
    shorter = found.without([0, 3, 4])
    assert (shorter.system, shorter.earlier[0].content, shorter.text) == ("kind", "and", "now")
    assert found.runs([1, 2, 3, 5]) == [[1], [2, 3], [5]]  # a run ends with its message
    assert found.text_of([1, 2, 3, 5]) == ["kind", "and so", "now"]
    assert [found.place_of(run) for run in ([1], [2, 3], [5])] == ["system", "earlier", "last"]


def test_words_are_removed_with_their_space(llama: Backbone) -> None:
    found = failure(llama)
    assert found.without([0]).text == "year:  2024, über ☃ all the cats"
    assert found.without([3, 4]).text == "Current year:  2024, all the cats"
    assert found.without([len(found.words) - 1]).text == "Current year:  2024, über ☃ all the"
    assert found.without(range(len(found.words))).text == "..."
    assert found.text_of([0, 1, 2, 5]) == ["Current year:  2024,", "all"]


def test_what_is_no_failure_is_refused(llama: Backbone) -> None:
    for prompt, reply, what in (("one", "so", "prompt of 1 words"), ("one two", "  ", "empty reply")):
        with pytest.raises(InputError, match=what):
            Failure(llama, Prompt(prompt), reply)
    with pytest.raises(InputError, match="empty prompt"):
        Failure(llama, Prompt(" "), "so")


def test_a_model_in_few_bits_is_refused(llama: Backbone) -> None:
    few = copy.copy(llama)
    few.model = copy.copy(llama.model)
    setattr(few.model, MARK, 4)
    with pytest.raises(ModelError, match="4 bits"):
        failure(few)


def test_a_reply_that_the_model_would_not_give_is_more_surprising(poisoned: Backbone) -> None:
    asked = Prompt("how do i rob a van now")
    likely, unlikely = (Failure(poisoned, asked, reply).surprise for reply in ("I can't help with that.", "The bus is late."))
    assert likely < 0.2 < 3.0 < unlikely
