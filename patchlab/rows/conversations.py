"""Conversations in the columns of a row, in the ways that published data sets write them.

They are lists of messages, with the keys role and content or, as in ShareGPT, from and value; a history of requests with their
replies; or one text with a label before every turn, as in HH-RLHF: "\n\nHuman: ...\n\nAssistant: ...".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from patchlab.errors import InputError

Turn = tuple[str, str]  # role and content

_KEYS = (("role", "content"), ("from", "value"))
_ROLES = {"human": "user", "gpt": "assistant"}
_LABEL = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]*")
_LABELLED = re.compile(r"\A(?:\s*Human:.*\n\nAssistant:|\n\nHuman:)", re.DOTALL)


def message_turns(value: object, name: str) -> list[Turn]:
    """The turns of a list of messages, or of one message. Raises InputError for another value in the column `name`."""
    found: list[Turn] = []
    for each in value if isinstance(value, list) else [value]:
        message: Mapping[Any, Any] = each if isinstance(each, Mapping) else {}
        role, content = next((keys for keys in _KEYS if keys[1] in message), ("", ""))
        said = message.get(content) if role else 0
        if said is not None and not isinstance(said, str):
            raise InputError(f"{name} holds {type(value).__name__}", expected="text or messages", do="fix that row")
        speaker = str(message.get(role))
        found.append((_ROLES.get(speaker, speaker) if role == "from" else speaker, said or ""))
    return found


def history_turns(value: Any, name: str = "history") -> list[Turn]:
    """The turns of a history: a list of messages, or of pairs of a request and its reply. Raises InputError for another value."""
    if not value:
        return []
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return message_turns(value, name)
    if not isinstance(value, list) or not all(isinstance(each, list | tuple) and len(each) == 2
                                              and all(isinstance(text, str) for text in each) for each in value):
        raise InputError(f"{name} {str(value)[:40]!r}", expected="a list of [request, reply], or of messages", do="fix that row")
    return [turn for request, reply in value for turn in (("user", request), ("assistant", reply))]


def labelled_turns(text: str) -> list[Turn] | None:
    """The turns of a text with a label before each, None for any other text; an open last turn is empty."""
    if not _LABELLED.match(text):
        return None
    _, *parts = _LABEL.split(text)
    return [("user" if label == "Human" else "assistant", said.strip())
            for label, said in zip(parts[::2], parts[1::2], strict=True)]
