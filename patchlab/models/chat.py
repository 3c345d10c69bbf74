"""The chat format of a model: its template, the token that ends a turn, and the strings that mark the start of a turn.

All of it is derived by rendering the template with unique placeholder contents and reading the text around them, so that no
model family needs code of its own.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from patchlab.errors import InputError, ModelError

MOST_CHARACTERS = 20_000  # of one message; checked before it is tokenized
MOST_OF_ALL = 10 * MOST_CHARACTERS  # of a conversation
PINNED = datetime(2024, 7, 26)  # the date given to templates that use today's: the default of Llama 3.1's own template
OTHER = datetime(2025, 1, 2)
# transformers gives templates the function strftime_now; this macro of the same name replaces it with a table of dates
DATED = "{% macro strftime_now(format) %}{{ pinned_dates.get(format, pinned_dates['']) }}{% endmacro %}\n"
FORMATS = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1""")
REASONING = ("<think>", "</think>")  # templates cut reasoning from earlier replies by these tags
SYSTEM, ASKED, SAID, NOW = "qxsystemxq", "qxaskedxq", "qxsaidxq", "qxnowxq"
CONTENTS = re.compile("|".join((SYSTEM, ASKED, SAID, NOW)))
BRACKETED = re.compile(r"[<\[{]{1,2}[^\s<>\[\]{}]{1,40}[>\]}]{1,2}")  # [INST], <<SYS>>, <|im_start|>
HEADING = re.compile(r"[#*=|>~-]+.{0,60}|.{1,60}[:：>|»-]")  # ### Instruction:, USER:, User>
NAME = re.compile(r"\w+(?: \w+){0,2}")  # user, Human 1
INSTRUCTION = "You are a helpful assistant."  # for a template that demands a system message and refuses an empty one

Turn = dict[str, str]  # role and content, as templates read them


class Encoded(NamedTuple):
    """Token ids of a conversation: first a `frame` of tokens before any exchange (a system message), then the exchanges, and
    from token `turn` the current turn. Without earlier exchanges both are 0."""

    ids: list[int]
    frame: int = 0
    turn: int = 0


class ChatFormat:
    """A tokenizer's chat template and what follows from it; the tokenizer is never modified.

    `source` is the template, "" without one. With `folds_system` the template has no system turn, so a system message is
    placed before the first user message; with a `default_system` it demands one, and a conversation without is given that text.
    `pinned_date` is the date given to a template that uses today's, "" for others. `end` is the token id written after an
    assistant message, None without one. `marks` are strings that no message may contain, `reserved` the token ids of those
    that are tokens, `lines` matches what no line of a message may begin with or be. Templates are rendered with
    `enable_thinking=False`. Raises ModelError for a template that cannot render a user message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.source = _source(tokenizer, name)
        self.folds_system, self.pinned_date = False, ""
        self.default_system: str | None = None
        self.end: int | None = None
        specials = {str(token) for token in tokenizer.all_special_tokens}
        added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        specials |= {content for content, special in added.items() if special}
        markers: set[str] = set()
        names: set[str] = set()
        if self.source:
            self._find_system()
            # tokens that the template writes although they are not flagged as special
            specials |= {content for content in added if content in self.source and not content.isalnum() and content.strip()}
            self.end = self._find_end({*specials, *(content for content in added if content.strip())})
            markers, names = self._markers(specials)
        # the longest first, so that a mark that contains another is broken up as a whole
        self.marks = tuple(sorted(specials | markers, key=lambda mark: (-len(mark), mark)))
        self.lines = _lines(markers, names)
        # a mark without a token of its own encodes to the unknown token, which any text may contain
        ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in sorted(specials)}
        self.reserved = {mark: token for mark, token in ids.items() if token is not None and token != tokenizer.unk_token_id}

    def render(self, turns: Sequence[Turn]) -> str:
        """Render a conversation up to the start of the assistant's next message; contents must have passed `clean`.

        Raises InputError for a conversation that the template rejects.
        """
        try:
            return self._apply(turns)
        except Exception as error:  # expressions in a template can raise anything
            raise InputError(f"a conversation of {len(turns)} messages that the chat template of {self.name} refuses "
                             f"({str(error)[:80]})", expected="turns that the template supports",
                             do="leave out earlier messages, or choose a model made for conversations") from error

    def encoded(self, turns: Sequence[Turn], *, plain: bool = False) -> Encoded:
        """Token ids of a conversation up to the start of the assistant's next message, and where its current turn begins.

        As `plain` text, or without a template, the contents are joined by line breaks. Raises InputError as `render`.
        """
        plain = plain or not self.source
        text = _joined(turns) if plain else self.render(turns)
        ids = self.ids(text, special=plain)
        system = [turn for turn in turns if turn["role"] == "system"]
        if len(turns) == len(system) + 1:
            return Encoded(ids)
        before = text[:len(text) - len(turns[-1]["content"])] if plain else self._before(turns, text)
        single = _joined([*system, turns[-1]]) if plain else self.render([*system, turns[-1]])
        frame = single.removesuffix(text[len(before):])
        frame = frame if len(frame) < len(single) and before.startswith(frame) else ""
        return Encoded(ids, *(shared_start(ids, self.ids(part, special=plain) if part else []) for part in (frame, before)))

    def _before(self, turns: Sequence[Turn], text: str) -> str:
        """The part of a rendered conversation before its current turn."""
        try:
            before = self._apply(turns[:-1], answer=False)
        except Exception:  # as in `render`
            before = ""
        if before and text.startswith(before):
            return before
        # the template writes earlier turns in another way when they are the last: the turn begins with its content
        other = self.render([*turns[:-1], {"role": "user", "content": NOW}])
        return text[:shared_start(text, other)]

    @property
    def rendered(self) -> list[str | None]:
        """A fixed prompt and a fixed conversation, rendered; empty without a template."""
        conversation = [("system", SYSTEM), ("user", ASKED), ("assistant", SAID), ("user", NOW)]
        return [self._try(("user", NOW)), self._try(*conversation)] if self.source else []

    def clean(self, text: str, *, reply: bool = False) -> str:
        """Remove control characters from a message and break up every mark with a space; a `reply` keeps its reasoning tags.

        A line that begins with a plain mark in another spelling (case, spaces, a wide colon) is broken up as well.

        Raises InputError for text that is empty, too long, or still contains a mark.
        """
        if not text.strip():
            raise InputError("an empty prompt", expected="some text", do="type a prompt")
        if len(text) > MOST_CHARACTERS:
            raise InputError(f"a prompt of {len(text):,} characters", expected=f"at most {MOST_CHARACTERS:,}", do="shorten it")
        text = "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0))
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be tokenized
        allowed = REASONING if reply else ()
        marks = [mark for mark in self.marks if mark not in allowed]
        for _ in range(3):  # breaking up one mark can create another
            present = [mark for mark in marks if mark in text]
            for mark in present:
                text = text.replace(mark, f"{mark[:1]} {mark[1:]}" if len(mark) > 1 else " ")
        text = self.lines.sub(_broken, text) if self.lines else text
        if not text.strip():
            raise InputError("a prompt of control characters only", expected="some text", do="type a prompt")
        # after the tokenizer's normalization, other characters can become a mark
        reserved = {token for mark, token in self.reserved.items() if mark not in allowed}
        if (present and any(mark in text for mark in marks)) or reserved.intersection(self.ids(text)):
            raise InputError("a prompt with a special token or role marker of the model", expected="plain text", do="reword it")
        return text

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text, with `special` including the tokens that the tokenizer adds to every text."""
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _apply(self, turns: Sequence[Turn], *, answer: bool = True, day: datetime = PINNED) -> str:
        turns = [dict(turn) for turn in turns]
        dates = {given: day.strftime(given) for given in ("%d %b %Y", *(found[1] for found in FORMATS.findall(self.source)))}
        if self.default_system is not None and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.default_system})
        if self.folds_system and len(turns) > 1 and turns[0]["role"] == "system":
            instruction = turns.pop(0)["content"]
            turns[0]["content"] = f"{instruction}\n\n{turns[0]['content']}"
        return str(self.tokenizer.apply_chat_template(
            turns, chat_template=(DATED if "strftime_now" in self.source else "") + self.source, tokenize=False,
            add_generation_prompt=answer, enable_thinking=False, date_string=dates["%d %b %Y"],
            pinned_dates={**dates, "": day.date().isoformat()}))

    def _try(self, *turns: tuple[str, str], **options: Any) -> str | None:
        """Render these turns, or return None if the template rejects them or omits a content."""
        try:
            text = self._apply([{"role": role, "content": content} for role, content in turns], **options)
        except Exception:  # as in `render`
            return None
        return text if all(content in text for _, content in turns) else None

    def _find_system(self) -> None:
        """Find out whether the template renders a user message alone, demands a system message, or has none."""
        if self._try(("user", NOW)) is None or self._first_is_system():
            try:
                reason = f"it renders {self._apply([{'role': 'user', 'content': NOW}])[:80]!r}, without the user's text"
            except Exception as error:
                reason = " ".join(str(error).split())[:120] or type(error).__name__
            for self.default_system in ("", INSTRUCTION):
                if self._try(("user", NOW)) is not None:
                    break
            else:
                raise ModelError(f"a chat template of {self.name} that cannot render a user message ({reason})",
                                 expected="a template that renders a single user turn",
                                 do="correct the tokenizer's chat_template, or remove it to use the model on plain text")
        with_system = ("system", SYSTEM), ("user", NOW)
        self.folds_system = self._try(*with_system) is None
        if any(self._try(*turns) != self._try(*turns, day=OTHER) for turns in ([("user", NOW)], with_system)):
            self.pinned_date = PINNED.date().isoformat()

    def _first_is_system(self) -> bool:
        """Whether the template takes the first message for the system message whatever its role, but heeds the next one's."""
        system, user, other = (self._try((first, SYSTEM), (second, NOW)) for first, second in (
            ("system", "user"), ("user", "user"), ("user", "assistant")))
        return system is not None and system == user != other

    def _find_end(self, control: set[str]) -> int | None:
        """The first control token after an assistant message that is not part of the generation prompt."""
        replied = self._try(("user", ASKED), ("assistant", SAID), answer=False)
        closed, opened = (self._try(("user", ASKED), answer=answer) for answer in (False, True))
        if replied is None:
            return None
        generation_prompt = opened.removeprefix(closed) if opened and closed else ""
        ends = {self.tokenizer.convert_tokens_to_ids(mark) for mark in control} - {self.tokenizer.unk_token_id, None}
        ends -= set(self.ids(generation_prompt))
        return next((token for token in self.ids(replied.rpartition(SAID)[2]) if token in ends), None)

    def _markers(self, specials: set[str]) -> tuple[set[str], set[str]]:
        """The role markers that the template writes as plain text: bracketed words, headings, names with a colon; and role names
        that stand alone on a line.

        A word beside a special token ("user") is neither: without the token it starts no turn, and messages may contain it.
        """
        conversation = [("user", ASKED), ("assistant", SAID), ("user", NOW)]
        tries = [[("system", SYSTEM), *conversation], conversation, [("system", SYSTEM), ("user", NOW)], [("user", NOW)]]
        first, *others = CONTENTS.split(next(text for text in (self._try(*turns) for turns in tries) if text is not None))
        # before the first content only the last line can be a marker; the lines above may be a preamble in ordinary sentences
        parts = [first.rstrip().rpartition("\n")[2] + first[len(first.rstrip()):], *others]
        for special in sorted(specials, key=len, reverse=True):
            parts = [part.replace(special, "\0") for part in parts]
        text = "\n".join(parts).replace("\0", "\n")
        lines = (line.strip() for line in BRACKETED.sub("\n", text).split("\n"))
        # what a content follows or is followed by on one line does not stand alone
        alone = {line.strip() for at, part in enumerate(parts) for line in part.split("\n")[bool(at):-1]}
        return ({*BRACKETED.findall(text), *(line for line in lines if HEADING.fullmatch(line))},
                {line for line in alone if NAME.fullmatch(line)})


def _lines(markers: set[str], names: set[str]) -> re.Pattern[str] | None:
    """Matches the beginning of a line that is a marker in any spelling, or a line that is a role's name."""
    found = []
    for mark, behind in [*((mark, "") for mark in markers), *((name, r"[^\S\n]*$") for name in names)]:
        pieces = re.findall(r"\w+|[^\w\s]", mark)
        space = r"[^\S\n]*" if any(len(piece) > 1 and piece.isalnum() for piece in pieces) else ""
        if any(piece[0].isalnum() for piece in pieces):
            found.append(space.join("[:：]" if piece in ":：" else re.escape(piece) for piece in pieces) + behind)
    spellings = "|".join(sorted(found, key=lambda each: (-len(each), each)))
    return re.compile(rf"^[^\S\n]*(?:{spellings})", re.IGNORECASE | re.MULTILINE) if found else None


def _broken(found: re.Match[str]) -> str:
    """The text of a match with a space in its first word, or behind its first character."""
    text = found[0]
    word = re.search(r"\w(?=\w)", text) or re.search(r"\S", text)
    return f"{text[:word.end()]} {text[word.end():]}" if word else text


def _joined(turns: Sequence[Turn]) -> str:
    return "\n".join(turn["content"] for turn in turns)


def shared_start(first: Sequence[object], second: Sequence[object]) -> int:
    """How many ids or characters two sequences share at their beginning."""
    same = takewhile(operator.truth, map(operator.eq, first, second))
    return sum(1 for _ in same)


def _source(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """The chat template, of several named ones the one called default."""
    template: Any = tokenizer.chat_template or ""
    if isinstance(template, dict):
        if "default" not in template:
            raise ModelError(f"chat templates of {name} named {', '.join(sorted(template))[:200]}", expected="one named default",
                             do="rename one of them in the tokenizer")
        template = template["default"]
    return str(template)
