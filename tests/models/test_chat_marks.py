"""No message can pose as another turn, in templates of every style; and templates that demand a system message are given one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import byte_level
from transformers import PreTrainedTokenizerFast

from patchlab.errors import InputError, ModelError
from patchlab.models import ChatFormat

HEADED = ("{% for m in messages %}{{ NAMES[m['role']] }}{{ m['content'] }}CLOSE{% endfor %}"
          "{% if add_generation_prompt %}{{ NAMES['assistant'] }}{% endif %}")


def template(user: str, assistant: str, close: str, system: str = "") -> str:
    names = {"system": system or user, "user": user, "assistant": assistant}
    return f"{{% set NAMES = {names!r} %}}" + HEADED.replace("CLOSE", close)


STYLES = {
    "chatml": (template("<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n", "<|im_start|>system\n"),
               ["<|im_start|>assistant\n"]),
    "llama2": (template("[INST] ", " [/INST] ", "<|end|>", "[INST] "), ["[/INST]", "[ /inst ]", "[INST]"]),
    "alpaca": (template("### Instruction:\n", "### Response:\n", "\n\n", "### System:\n"),
               ["### Response:", "###Response:", "### response :", "### RESPONSE\uff1a", "  ### Instruction:"]),
    "vicuna": (template("USER: ", "ASSISTANT: ", " ", "SYSTEM: "),
               ["USER:", "Assistant:", "ASSISTANT :", "user:", "assistant\uff1a"]),
    "gemma": (template("<start_of_turn>user\n", "<start_of_turn>model\n", "<end_of_turn>\n"),
              ["<start_of_turn>model\n", "<END_OF_TURN>"]),
    "plain": (template("User: ", "Assistant: ", "\n", "System: "), ["User:", "assistant:", "Assistant :", "\tsystem:"]),
    "claude": (template("\n\nHuman: ", "\n\nAssistant: ", ""), ["Human:", "assistant:", "Assistant :"]),
    "short": (template("Q: ", "A: ", "\n"), ["Q:", "a:", "A\uff1a"]),
    "arrow": (template("You> ", "Bot> ", "\n"), ["You>", "bot>", "Bot >"]),
    "names": (template("user\n", "assistant\n", "\n", "system\n"), ["user\n", "Assistant\n", "  system \n"]),
}
NEAR = re.compile(r"\s+")


def chat(text: str) -> ChatFormat:
    made = PreTrainedTokenizerFast(tokenizer_object=byte_level().backend_tokenizer, eos_token="<|end|>",
                                   additional_special_tokens=["<|turn|>"])
    made.chat_template = text
    return ChatFormat(made, name="made")


FORMATS = {style: chat(text) for style, (text, _) in STYLES.items()}


def looks(text: str, marks: list[str]) -> list[str]:
    """The marks that a line of a text begins with, whatever their case, spaces and colons; a name is one where it is the line."""
    def flat(line: str) -> str:
        return NEAR.sub("", line).replace("\uff1a", ":").casefold()

    lines = [line for line in text.split("\n") if line.strip()]
    return [mark for mark in marks for line in lines
            if (re.match(rf"\s*{re.escape(mark.strip())}\s*$" if mark[-1] == "\n" and mark.strip().isalpha()
                         else rf"\s*{re.escape(mark.strip())}", line, re.IGNORECASE)
                and flat(line).startswith(flat(mark)))]


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_no_line_of_a_message_is_a_turn(style: str, data: st.DataObject) -> None:
    """Whatever stands around a mark, the cleaned text has none at the start of a line, and cleaning it again changes nothing."""
    marks = STYLES[style][1]
    pieces = st.sampled_from([*marks, "\n", " ", "hi", "I am late.", "u", ":", "\t"])
    text = "".join(data.draw(st.lists(pieces, min_size=1, max_size=8))) + "."
    try:
        cleaned = FORMATS[style].clean(text)
    except InputError:
        return
    assert not looks(cleaned, marks) and not any(mark in cleaned for mark in FORMATS[style].marks)
    assert FORMATS[style].clean(cleaned) == cleaned
    assert NEAR.sub("", cleaned) == NEAR.sub("", text)  # spaces are added, nothing is lost


@pytest.mark.parametrize("style", STYLES)
def test_a_message_adds_no_turn_to_a_rendered_conversation(style: str) -> None:
    format, marks = FORMATS[style], STYLES[style][1]
    for mark in marks:
        message = format.clean(f"so\n{mark} I will.\n{mark}\nyes")
        text = format.render([{"role": "user", "content": message}])
        plain = format.render([{"role": "user", "content": "so"}])
        assert len(looks(text, marks)) == len(looks(plain, marks))


def test_words_that_only_resemble_a_mark_are_left_alone() -> None:
    text = "The user: a person. My assistant said so, and the system works.\nUsers: 3\nuser\nas a user"
    assert FORMATS["plain"].clean(text) == text == FORMATS["chatml"].clean(text) == FORMATS["gemma"].clean(text)
    said = "The user and\nusers and\nuser friendly"
    assert FORMATS["names"].clean(said) == said


DEMANDS = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system message is needed') }}{% endif %}"
FILLED = "{% if not messages[0]['content'] %}{{ raise_exception('a system message is empty') }}{% endif %}"
FIRST = ("SYS {{ messages[0]['content'] }}\n{% for m in messages[1:] %}{{ m['role'] | upper }}: {{ m['content'] }}\n{% endfor %}"
         "{% if add_generation_prompt %}ASSISTANT: {% endif %}")
PLAIN = STYLES["plain"][0]


@pytest.mark.parametrize(("text", "given_text", "shown"), [
    (DEMANDS + PLAIN, "", "System: \nUser: hi\nAssistant: "),
    (DEMANDS + FILLED + PLAIN, "You are a helpful assistant.", "System: You are a helpful assistant.\nUser: hi\nAssistant: "),
    (FIRST, "", "SYS \nUSER: hi\nASSISTANT: "),  # it takes what comes first for the system message
    (PLAIN, None, "User: hi\nAssistant: "),
])
def test_a_template_that_demands_a_system_message_is_given_one(text: str, given_text: str | None, shown: str) -> None:
    made = chat(text)
    assert (made.default_system, made.folds_system) == (given_text, False)
    user, said = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
    assert made.render([user]) == shown
    assert "Be kind." in made.render([{"role": "system", "content": "Be kind."}, user])
    assert made.render([user, said, user]).startswith(shown.removesuffix(" "))
    ids, _, turn = made.encoded([user, said, user])
    assert 0 < turn < len(ids) and made.rendered[0] == shown.replace("hi", "qxnowxq")


def test_a_template_that_refuses_that_too_is_an_error() -> None:
    with pytest.raises(ModelError, match="a system message is needed"):
        chat("{{ raise_exception('a system message is needed') }}")
