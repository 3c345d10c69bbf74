"""A pair keeps every turn of its prompt, in whichever columns a row gives them, or the row is skipped and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patchlab.errors import InputError
from patchlab.evaluation.suites import own_prompt
from patchlab.records import Message, Pair, Prompt
from patchlab.storage import write_jsonl
from patchlab.training.pair_rows import pair_of
from patchlab.training.preference_data import read_pairs

EARLIER = (Message("user", "help"), Message("assistant", "with what"))
WANTED = Pair(Prompt("a lock", domain="harmful", earlier=EARLIER), "no", "yes")
TOLD = Pair(Prompt("a lock", domain="harmful", system="Be brief.", earlier=EARLIER), "no", "yes")
REPLIES = {"chosen": "no", "rejected": "yes"}
TURNS = [("user", "help"), ("assistant", "with what"), ("user", "a lock")]
SYSTEM = ("system", "Be brief.")
HH = "\n\nHuman: help\n\nAssistant: with what\n\nHuman: a lock\n\nAssistant:"


def messages(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def sharegpt(*turns: tuple[str, str]) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt"}
    return [{"from": names.get(role, role), "value": content} for role, content in turns]


NO, YES = ("assistant", "no"), ("assistant", "yes")
HISTORY = [["help", "with what"]]
FORMS: list[tuple[dict[str, Any], Pair]] = [
    ({"chosen": f"{HH} no", "rejected": f"{HH} yes"}, WANTED),  # HH-RLHF
    ({"prompt": HH, "chosen": " no", "rejected": " yes"}, WANTED),  # the same with its prompt apart
    ({"prompt": HH, "chosen": f"{HH} no", "rejected": f"{HH} yes"}, WANTED),
    ({"prompt": HH.lstrip(), **REPLIES}, WANTED),
    ({"prompt": messages(*TURNS), "chosen": messages(NO), "rejected": messages(YES)}, WANTED),  # TRL
    ({"prompt": messages(SYSTEM, *TURNS), "chosen": messages(NO), "rejected": messages(YES)}, TOLD),
    ({"chosen": messages(SYSTEM, *TURNS, NO), "rejected": messages(SYSTEM, *TURNS, YES)}, TOLD),
    ({"prompt": "a lock", "chosen": messages(*TURNS, NO), "rejected": messages(*TURNS, YES), "history": HISTORY}, WANTED),
    ({"prompt": messages(TURNS[0]), "chosen": messages(*TURNS[1:], NO), "rejected": messages(*TURNS[1:], YES)}, WANTED),
    ({"prompt": "help", "chosen": messages(*TURNS[1:], NO), "rejected": messages(*TURNS[1:], YES)}, WANTED),
    ({"messages": messages(*TURNS), **REPLIES}, WANTED),
    ({"messages": messages(*TURNS, NO), **REPLIES}, WANTED),  # the chosen reply at their end
    ({"messages": messages(*TURNS), "prompt": "a lock", **REPLIES}, WANTED),
    ({"messages": messages(*TURNS), "system": "Be brief.", **REPLIES}, TOLD),
    ({"messages": messages(SYSTEM, *TURNS), "system": "Be brief.", **REPLIES}, TOLD),
    ({"prompt": "a lock", "history": HISTORY, "system": "Be brief.", **REPLIES}, TOLD),
    ({"prompt": "a lock", "history": messages(*TURNS[:2]), "system": None, **REPLIES}, WANTED),
    ({"prompt": messages(SYSTEM, TURNS[2]), "history": HISTORY, **REPLIES}, TOLD),
    ({"prompt": HH, "system": "Be brief.", **REPLIES}, TOLD),
    ({"chosen": messages(*TURNS, NO), "rejected": messages(*TURNS, YES), "system": "Be brief."}, TOLD),
    ({"conversations": sharegpt(*TURNS), "chosen": sharegpt(NO)[0], "rejected": sharegpt(YES)[0]}, WANTED),
    ({"conversations": sharegpt(SYSTEM, *TURNS), "chosen": sharegpt(NO), "rejected": sharegpt(YES)}, TOLD),
]


@pytest.mark.parametrize(("row", "pair"), FORMS)
def test_every_turn_is_kept_however_a_row_gives_it(row: dict[str, Any], pair: Pair) -> None:
    assert pair_of(row, "continue", "harmful") == pair


@pytest.mark.parametrize(("row", "said"), [
    ({"prompt": "a lock", "history": "help", **REPLIES}, "history 'help'"),
    ({"prompt": "a lock", "history": [["help"]], **REPLIES}, "history "),
    ({"prompt": "a lock", "history": messages(TURNS[0]), **REPLIES}, "user, user"),
    ({"prompt": "a lock", "system": 3, **REPLIES}, "system '3'"),
    ({"prompt": messages(SYSTEM, *TURNS), "system": "Be long.", **REPLIES}, "another system message"),
    ({"prompt": "a key", "messages": messages(*TURNS), **REPLIES}, "do not end with the prompt"),
    ({"messages": messages(*TURNS, NO), "chosen": "never", "rejected": "yes"}, "ends in assistant"),
    ({"messages": messages(*TURNS, ("tool", "x")), **REPLIES}, "the role .tool."),
    ({"prompt": "a lock", "history": HISTORY, "kind": "continue", **REPLIES}, "text to continue"),
    ({"prompt": "\n\nHuman: help\n\nHuman: a lock\n\nAssistant:", **REPLIES}, "user, user"),
    ({"history": HISTORY, **REPLIES}, "no prompt"),
    ({"system": "Be brief.", **REPLIES}, "no prompt"),
])
def test_turns_that_form_no_conversation_are_said(row: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pair_of(row, "chat", "harmful")


@pytest.mark.parametrize(("row", "why"), [
    ({"chosen": f"{HH} no", "rejected": "\n\nHuman: other\n\nAssistant: yes"}, "messages before the reply"),
    ({"prompt": "a lock", "chosen": messages(*TURNS, NO), "rejected": "yes"}, "messages before the reply"),
    ({"prompt": messages(TURNS[0], ("assistant", " "), TURNS[2]), **REPLIES}, "empty prompt"),
    ({"chosen": HH, "rejected": f"{HH} yes"}, "empty reply"),
])
def test_turns_that_differ_or_lack_text_are_counted(row: dict[str, Any], why: str) -> None:
    assert str(pair_of(row, "chat", "harmful")).startswith(why)


def test_one_text_is_of_the_kind_of_the_patch_and_labels_inside_it_are_text() -> None:
    for text in ("a lock", "Human: a lock", "they said\n\nHuman: hi\n\nAssistant: ho"):
        pair = Pair(Prompt(text, "continue", "toxicity"), "no", "yes")
        assert pair_of({"prompt": text, **REPLIES}, "continue", "toxicity") == pair


def test_columns_that_are_not_read_are_told_once(tmp_path: Path) -> None:
    rows = [{"prompt": "so", **REPLIES, "images": ["x"], "source": "web"}, {"prompt": "so", **REPLIES, "tools": None}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    notes: list[str] = []
    read_pairs(str(tmp_path / "a.jsonl"), domain="toxicity", notes=notes)
    assert [note.partition(": ")[2] for note in notes] == ["columns that are not used: images, source"]


def test_a_prompt_of_a_file_keeps_its_history_too() -> None:
    row: dict[str, Any] = {"text": "a lock", "history": HISTORY, "system": "Be brief."}
    assert own_prompt(row) == Prompt("a lock", system="Be brief.", earlier=EARLIER)
    for wrong in ({**row, "kind": "continue"}, {"messages": messages(*TURNS), "history": HISTORY}, {**row, "history": [3]}):
        with pytest.raises(InputError):
            own_prompt(wrong)
