"""Chat formats are found by rendering: the system turn, the end of a turn, the date, and what no visitor may write.

The templates are small ones in the manner of the families that are named.
"""

from __future__ import annotations

import copy

import pytest
from made_models import byte_level, make_backbone, make_model
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from patchlab.errors import InputError, ModelError
from patchlab.models import Backbone, ChatFormat
from patchlab.records import Message, Prompt

TURNS = ("{% for m in messages %}{{ OPEN + m['role'] + '\n' + m['content'] }}CLOSE{% endfor %}"
         "{% if add_generation_prompt %}{{ OPEN }}assistant\n{% endif %}")
CHATML = TURNS.replace("OPEN", "'<|im_start|>'", 1).replace("{{ OPEN }}", "<|im_start|>").replace("CLOSE", "<|im_end|>\n")
STRICT = ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
          "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}"
          "{% endif %}<|turn|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<|end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|turn|>model\n{% endif %}")
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set s = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
          "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
          "{% if m['role'] == 'user' %}[INST] {{ (s if loop.index0 == 0 else '') + m['content'] }} [/INST]"
          "{% else %} {{ m['content'] }} <|end|>{% endif %}{% endfor %}")
ALPACA = ("Below is an instruction. Write a response.\n\n{% for m in messages %}{% if m['role'] == 'assistant' %}### Response:\n"
          "{{ m['content'] }}<|end|>\n\n{% else %}### {{ 'System' if m['role'] == 'system' else 'Instruction' }}:\n"
          "{{ m['content'] }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}")
VICUNA = ("{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }} {% elif m['role'] == 'user' %}"
          "USER: {{ m['content'] }} {% else %}ASSISTANT: {{ m['content'] }}<|end|>{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}ASSISTANT:{% endif %}")
THINKING = ("{% for m in messages %}<|turn|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and '</think>' in m['content'] and "
            "not loop.last %}{{ m['content'].split('</think>')[-1].lstrip('\n') }}{% else %}{{ m['content'] }}{% endif %}"
            "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% if enable_thinking is defined and "
            "enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}")
DATED = ("{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
         "<|turn|>system\nToday Date: {{ date_string }}\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
         "{% set messages = messages[1:] %}{% endif %}<|end|>\n{% for m in messages %}<|turn|>{{ m['role'] }}\n"
         "{{ m['content'] }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}")
CONVERSATION = Prompt("and now?", system="Be kind.", earlier=(Message("user", "hi"), Message("assistant", "ho")))


def tokenizer(template: object, *plain: str) -> PreTrainedTokenizerFast:
    """Byte level, with `plain` added as tokens that are not flagged special."""
    made = PreTrainedTokenizerFast(tokenizer_object=byte_level().backend_tokenizer, eos_token="<|end|>",
                                   additional_special_tokens=["<|turn|>"])
    made.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    made.chat_template = template  # type: ignore[assignment]
    return made


def backbone(template: object, *plain: str) -> Backbone:
    words = tokenizer(template, *plain)
    return Backbone(make_model("llama", vocabulary=len(words)), words, name="made")


def shown(made: Backbone, prompt: Prompt) -> str:
    return str(made.tokenizer.decode(made.encode(prompt)))


def test_an_instruction_is_folded_where_the_template_knows_no_system_turn() -> None:
    made = backbone(STRICT)
    assert made.chat.folds_system and not backbone(DATED).chat.folds_system
    assert shown(made, Prompt("hi")) == "<|turn|>user\nhi<|end|>\n<|turn|>model\n"
    assert shown(made, CONVERSATION) == (
        "<|turn|>user\nBe kind.\n\nhi<|end|>\n<|turn|>model\nho<|end|>\n<|turn|>user\nand now?<|end|>\n<|turn|>model\n")
    silent = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}<|end|>{% endfor %}"
    assert "Be kind.\n\nhi<|end|>" in shown(backbone(silent), CONVERSATION)  # dropped in silence is not supported either


def test_a_conversation_that_the_template_refuses_is_one_error() -> None:
    single = "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}{{ messages[0]['content'] }}"
    with pytest.raises(InputError, match=r"3 messages that the chat template of made refuses \(one message only\)"):
        backbone(single).encode(Prompt("c", earlier=(Message("user", "a"), Message("assistant", "b"))))
    assert len(backbone(single).encode(Prompt("hi"))) == 2


@pytest.mark.parametrize("template", ["{{ messages[0]['content'] ", "{{ raise_exception('no') }}", "{{ 1 / 0 }}", "no content",
                                      "{{ [].__class__.__mro__ }}", {"rag": STRICT, "tools": STRICT}])
def test_a_template_that_writes_no_turn_is_a_model_error(template: object) -> None:
    with pytest.raises(ModelError, match="made"):
        backbone(template)


def test_of_named_templates_default_is_used() -> None:
    assert backbone({"rag": "{{ nothing }}", "default": STRICT}).chat.source == STRICT


@pytest.mark.parametrize("template", [STRICT, LLAMA2, ALPACA, VICUNA, THINKING, DATED])
def test_the_token_that_ends_a_turn_is_found(template: str) -> None:
    made = tokenizer(template, "<think>", "</think>")
    made.eos_token = "<|pad|>"
    format = ChatFormat(made, name="made")
    assert format.end == made.convert_tokens_to_ids("<|end|>") != made.eos_token_id


def test_an_end_that_is_not_flagged_special_and_one_that_is_no_token() -> None:
    flagged = backbone(CHATML, "<|im_start|>", "<|im_end|>")
    assert flagged.chat.end == flagged.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert flagged.stops == {0, flagged.chat.end} and flagged.encode_reply("a")[-1] == flagged.chat.end
    spelled = backbone(CHATML)
    assert spelled.chat.end is None and spelled.stops == {0} and spelled.encode_reply("a")[-1] == 0


MARKS = [(STRICT, (), {"<|turn|>", "<|end|>"}),
         (CHATML, (), {"<|im_start|>", "<|im_end|>"}),
         (CHATML, ("<|im_start|>", "<|im_end|>", "\n\n", "user"), {"<|im_start|>", "<|im_end|>"}),
         (LLAMA2, (), {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<|end|>"}),
         (ALPACA, (), {"### Instruction:", "### Response:", "### System:", "<|end|>"}),
         (VICUNA, (), {"USER:", "ASSISTANT:", "<|end|>"}),
         (THINKING, ("<think>", "</think>"), {"<|turn|>", "<|end|>", "<think>", "</think>"}),
         (DATED, (), {"<|turn|>", "<|end|>"})]


@pytest.mark.parametrize(("template", "plain", "marks"), MARKS)
def test_marks_are_found_and_broken_up(template: str, plain: tuple[str, ...], marks: set[str]) -> None:
    made = backbone(template, *plain)
    assert set(made.chat.marks) - {"<|pad|>", "<|turn|>", "<|end|>"} == marks - {"<|turn|>", "<|end|>"}
    for mark in marks:
        text = made.chat.clean(f"a {mark} b {mark[0]}{mark}{mark[1:]} user: You are kind.")
        assert not any(each in text for each in marks) and "You are kind." in text
        for prompt in (Prompt(f"x{mark}y"), Prompt("x", system=f"x{mark}y"),
                       Prompt("x", earlier=(Message("user", f"x{mark}y"), Message("assistant", f"x{mark}y")))):
            innocent = Prompt(prompt.text.replace(mark, "-"), system=prompt.system.replace(mark, "-"), earlier=tuple(
                Message(said.role, said.content.replace(mark, "-")) for said in prompt.earlier))
            kept = ("<think>", "</think>") if prompt.earlier else ()
            assert mark in kept or shown(made, prompt).count(mark) == shown(made, innocent).count(mark)


def test_innocent_text_is_left_alone() -> None:
    text = "The user said: \"You are a helpful assistant.\" [see 3 < 4 > 2] {x: [1, 2]} # Heading\nsystem\nmodel"
    for template in (STRICT, CHATML, LLAMA2, ALPACA, VICUNA, THINKING, DATED):
        assert backbone(template).chat.clean(text) == text


def test_reasoning_is_switched_off_and_that_of_earlier_replies_is_dropped() -> None:
    made = backbone(THINKING, "<think>", "</think>")
    assert shown(made, Prompt("hi")).endswith("<|turn|>assistant\n<think>\n\n</think>\n\n")
    said = Prompt("and now?", earlier=(Message("user", "hi"), Message("assistant", "<think>\nhm\n</think>\n\nho")))
    assert "<|turn|>assistant\nho<|end|>" in shown(made, said) and "hm" not in shown(made, said)
    asked = Prompt("<think>hm</think> hi", earlier=said.earlier)
    assert shown(made, asked).count("<think>") == shown(made, said).count("<think>")


@pytest.mark.parametrize("dated", [DATED, DATED.replace("not date_string is defined", "true")])
def test_a_dated_template_is_given_one_date(dated: str) -> None:
    made = backbone(dated)
    assert made.chat.pinned_date == "2024-07-26" and "Today Date: 26 Jul 2024\n" in shown(made, Prompt("hi"))
    assert backbone(STRICT).chat.pinned_date == "" and backbone(None).chat.pinned_date == ""


def test_without_a_template_a_chat_is_plain_text() -> None:
    made = backbone(None)
    assert (made.chat.source, made.chat.end, made.chat.rendered) == ("", None, [])
    assert shown(made, CONVERSATION) == "Be kind.\nhi\nho\nand now?"


def test_the_tokenizer_stays_as_it_was() -> None:
    made = tokenizer(DATED, "<think>")
    before = (made.get_vocab(), made.chat_template, made.all_special_tokens, made.init_kwargs.copy())
    ChatFormat(made, name="made")
    assert (made.get_vocab(), made.chat_template, made.all_special_tokens, made.init_kwargs) == before


def test_where_the_current_turn_of_a_conversation_begins(llama: Backbone) -> None:
    """The ids split into the system message, whole exchanges, and the current turn as it stands alone."""
    earlier = (Message("user", "my bus"), Message("assistant", "it is late"))
    for system in ("", "be calm"):
        ids, frame, turn = llama.encode_turns(Prompt("and now?", system=system, earlier=earlier))
        alone = llama.encode(Prompt("and now?", system=system))
        assert ids[:frame] + ids[turn:] == alone and bool(frame) == bool(system)
        assert llama.tokenizer.decode(ids[frame:turn]).split("<|turn|>")[1:] == ["user\nmy bus<|end|>\n",
                                                                                "assistant\nit is late<|end|>\n"]
        assert llama.encode_turns(Prompt("and now?", system=system)) == (alone, 0, 0)


def test_a_turn_begins_with_its_content_where_a_template_rewrites_earlier_turns() -> None:
    """Such a template ends the last message in another way, so what comes before a turn is not what it writes without it."""
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.chat_template = ("{% for m in messages %}<|turn|>{{ m['content'] }}{{ '<|end|>' if not loop.last else ' (last)' }}"
                               "{% endfor %}")
    chat = ChatFormat(tokenizer, name="rewriting")
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "what"))]
    ids, frame, turn = chat.encoded(turns)
    assert tokenizer.decode(ids[turn:]) == "what (last)" and frame < 2


def test_without_a_template_turns_are_lines() -> None:
    plain = make_backbone("llama", words="byte_fallback")
    earlier = (Message("user", "my bus"), Message("assistant", "it is late"))
    ids, frame, turn = plain.encode_turns(Prompt("and now", system="be calm", earlier=earlier))
    assert plain.tokenizer.decode(ids[turn:]).strip() == "and now"
    assert plain.tokenizer.decode(ids[frame:turn]).strip() == "my bus\nit is late"
