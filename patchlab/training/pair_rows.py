"""A preference pair in the columns of a row: `chosen` and `rejected`, and the prompt in whichever columns it is published.

The prompt is `prompt` or `messages`, behind `system` and `history` where a row has them; without a prompt it is what both replies
begin with. A text or a list of messages may be in any of them. Nothing of a conversation is left out: a row whose turns do not
form one is an InputError.
"""

from __future__ import annotations

from dataclasses import dataclass

from patchlab.errors import InputError
from patchlab.records import Kind, Pair
from patchlab.rows import Row
from patchlab.rows.conversations import Turn, history_turns, labelled_turns, message_turns
from patchlab.training.candidates import prompt_of

COLUMNS = ("prompt", "chosen", "rejected")
SEVERAL = ("messages", "conversations")  # other names of a prompt of several turns
STORED = ("chosen", "rejected", "chosen_score", "rejected_score", "chosen_cut", "rejected_cut")
READ = {*COLUMNS, *SEVERAL, *STORED, "system", "history", "kind", "domain", "id"}


@dataclass(frozen=True, slots=True)
class _Said:
    """What a column holds: the turns before its reply, and the reply."""

    before: list[Turn]
    reply: str


def pair_of(row: Row, kind: Kind, domain: str) -> Pair | str:
    """The pair of a row, or why there is none. Raises InputError for a row that lacks a column or holds something else in it.

    A prompt of one text is of `kind`, a conversation of kind `chat`, unless the row says otherwise.
    """
    chosen, rejected = (None if row.get(name) is None else _said(row[name], name) for name in COLUMNS[1:])
    asked = _asked(row, chosen)
    lacking = [name for name, value in zip(COLUMNS, (asked, chosen, rejected), strict=True) if value is None]
    if asked is None or chosen is None or rejected is None:
        raise InputError(f"no {' and no '.join(lacking)} (it has {', '.join(map(str, row))[:200]})",
                         expected=f"columns {', '.join(COLUMNS)}", do="rename the columns")
    turns, contexts = asked if isinstance(asked, list) else [("user", asked)], [chosen.before, rejected.before]
    if contexts[0] == contexts[1] and contexts[0] and contexts[0][0][0] == "assistant":  # the prompt goes on in both replies
        asked, contexts = [*turns, *contexts[0]], []
        turns = asked
    if not turns or not all(content.strip() for _, content in turns):
        return "empty prompt"
    if not (chosen.reply and rejected.reply):
        return "empty reply"
    told = asked if isinstance(asked, str) else [{"role": role, "content": content} for role, content in turns]
    prompt = prompt_of({**row, "prompt": told}, kind=kind if isinstance(asked, str) else "chat", domain=domain)
    own = _stripped(turns)
    if any(context and _stripped(context) not in (own, own[1:] if own[0][0] == "system" else own) for context in contexts):
        return "messages before the reply that are not the prompt's"
    same = chosen.reply == rejected.reply
    return "same reply twice" if same else Pair(prompt, chosen.reply, rejected.reply)


def _stripped(turns: list[Turn]) -> list[Turn]:
    return [(role, content.strip()) for role, content in turns]


def _said(value: object, name: str) -> _Said:
    """A reply with what is before it; without a last message of the assistant the reply is empty."""
    if isinstance(value, str):
        turns = labelled_turns(value) or [("assistant", value)]
    elif isinstance(value, list | dict):
        turns = message_turns(value, name)
    else:
        raise InputError(f"{name} holds {type(value).__name__}", expected="text or messages", do="fix that row")
    return _Said(turns[:-1], turns[-1][1].strip() if turns and turns[-1][0] == "assistant" else "")


def _asked(row: Row, chosen: _Said | None) -> str | list[Turn] | None:
    """The prompt as one text, or as turns where it is a conversation; None where no column has one."""
    asked, several = row.get("prompt"), next((row[name] for name in SEVERAL if row.get(name)), None)
    before, system = history_turns(row.get("history")), row.get("system") or ""
    if asked is not None and not isinstance(asked, str | list):
        raise InputError(f"prompt holds {type(asked).__name__}", expected="text or messages", do="fix that row")
    if not isinstance(system, str):
        raise InputError(f"system {str(system)[:40]!r}", expected="a text", do="fix that row")
    turns = labelled_turns(asked) if isinstance(asked, str) else None
    if turns and turns[-1] == ("assistant", ""):
        turns = turns[:-1]  # where the reply begins
    if isinstance(asked, list):
        turns = message_turns(asked, "prompt")
    elif several is not None:
        turns = _without_reply(message_turns(several, "messages"), chosen)
        if asked is not None and turns[-1:] != [("user", asked)]:
            raise InputError("messages that do not end with the prompt", expected="one of both", do="fix that row")
    elif asked is None and chosen and chosen.before:
        turns = chosen.before
    if turns is None and not (system or before):
        return asked.strip() if isinstance(asked, str) else None
    turns = [("user", asked)] if turns is None and isinstance(asked, str) else turns
    if turns is None:
        return None
    first = turns[:1] if turns[:1] and turns[0][0] == "system" else []
    if system and first and first[0][1].strip() != system.strip():
        raise InputError("a system text and another system message", expected="one of both", do="fix that row")
    return [*(first or ([("system", system)] if system else [])), *before, *turns[len(first):]]


def _without_reply(turns: list[Turn], chosen: _Said | None) -> list[Turn]:
    """The messages without a last one that is the chosen reply."""
    answered = chosen and turns[-1:] and turns[-1][0] == "assistant" and turns[-1][1].strip() == chosen.reply
    return turns[:-1] if answered else turns
