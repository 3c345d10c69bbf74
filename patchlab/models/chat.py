"""How a model wants a conversation written: its chat template, the token that ends a turn, and the marks of a turn.

All of it is found by rendering: the template is given contents that occur nowhere else, and what it writes around them is
read. Nothing here knows a model family by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase

from patchlab.errors import InputError, ModelError

MOST_CHARACTERS = 20_000  # of one message; a longer one is refused before it is tokenized
MOST_OF_ALL = 10 * MOST_CHARACTERS  # of a conversation
PINNED = datetime(2024, 7, 26)  # what templates that ask for today's date are told: the default of Llama 3.1's own template
OTHER = datetime(2025, 1, 2)
# the library gives templates today's date by a function, and hands on no functions of ours: this one reads a table
DATED = "{% macro strftime_now(format) %}{{ pinned_dates.get(format, pinned_dates['']) }}{% endmacro %}\n"
FORMATS = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1""")
REASONING = ("<think>", "</think>")  # templates cut this out of earlier replies, so it must reach them whole
SYSTEM, ASKED, SAID, NOW = "qxsystemxq", "qxaskedxq", "qxsaidxq", "qxnowxq"
CONTENTS = re.compile("|".join((SYSTEM, ASKED, SAID, NOW)))
BRACKETED = re.compile(r"[<\[{]{1,2}[^\s<>\[\]{}]{1,40}[>\]}]{1,2}")  # [INST], <<SYS>>, <|im_start|>
HEADING = re.compile(r"[#*=|>~-]+.{0,60}|.{1,60}[:：]")  # ### Instruction:, USER:

Turn = dict[str, str]  # role and content, as templates read them


class ChatFormat:
    """A tokenizer's chat template, or none; only ever read.

    `source` is the template ("" without one). `folds_system`: the template has no system turn, so the instruction stands at
    the head of the first user turn. `pinned_date` is the date a dated template is given, "" for others. `end` is the token
    written after an assistant's message, None where the template writes none. `marks` is what no visitor's text may spell,
    `reserved` the ids of those that are tokens. Templates that know `enable_thinking` are told no; those that drop the
    reasoning of earlier replies (Qwen3's) do so here as well. Raises ModelError for a template that renders nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.source = _source(tokenizer, name)
        self.folds_system, self.pinned_date = False, ""
        self.end: int | None = None
        specials = {str(token) for token in tokenizer.all_special_tokens}
        added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        specials |= {content for content, special in added.items() if special}
        written: set[str] = set()
        if self.source:
            self._find_system()
            # tokens that are not flagged special, and that the template writes all the same
            specials |= {content for content in added if content in self.source and not content.isalnum() and content.strip()}
            self.end = self._find_end({*specials, *(content for content in added if content.strip())})
            written = self._written(specials)
        # the longest first: breaking up a part of a mark must not save the rest of it
        self.marks = tuple(sorted(specials | written, key=lambda mark: (-len(mark), mark)))
        # any text may hold what a tokenizer does not know
        ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in sorted(specials)}
        self.reserved = {mark: token for mark, token in ids.items() if token is not None and token != tokenizer.unk_token_id}

    def render(self, turns: Sequence[Turn]) -> str:
        """The text of a conversation up to where the assistant's next message begins; contents as `clean` gives them.

        Raises InputError for a conversation that the template refuses.
        """
        try:
            return self._apply(turns)
        except Exception as error:  # a template may raise whatever its expressions do
            raise InputError(f"a conversation of {len(turns)} messages that the chat template of {self.name} refuses "
                             f"({str(error)[:80]})", expected="turns that it can write",
                             do="leave out earlier messages, or choose a model made for conversations") from error

    @property
    def rendered(self) -> list[str | None]:
        """A fixed prompt and a fixed conversation as the template writes them; empty without a template."""
        conversation = [("system", SYSTEM), ("user", ASKED), ("assistant", SAID), ("user", NOW)]
        return [self._try(("user", NOW)), self._try(*conversation)] if self.source else []

    def clean(self, text: str, *, reply: bool = False) -> str:
        """A message's text without control characters, and with every mark of a turn broken up; an earlier `reply` keeps
        its reasoning tags. Raises InputError for text that is empty, overlong, or still reads as one of the marks.
        """
        if not text.strip():
            raise InputError("an empty prompt", expected="some text", do="type a prompt")
        if len(text) > MOST_CHARACTERS:
            raise InputError(f"a prompt of {len(text):,} characters", expected=f"at most {MOST_CHARACTERS:,}", do="shorten it")
        text = "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0))
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be tokenized
        kept = REASONING if reply else ()
        marks = [mark for mark in self.marks if mark not in kept]
        for _ in range(3):  # what is broken up may spell another mark
            spelled = [mark for mark in marks if mark in text]
            for mark in spelled:
                text = text.replace(mark, f"{mark[:1]} {mark[1:]}" if len(mark) > 1 else " ")
        if not text.strip():
            raise InputError("a prompt of control characters only", expected="some text", do="type a prompt")
        # a tokenizer may see a mark where the characters are others, by its normalization
        reserved = {token for mark, token in self.reserved.items() if mark not in kept}
        if (spelled and any(mark in text for mark in marks)) or reserved.intersection(self.ids(text)):
            raise InputError("a prompt that spells one of the model's own marks", expected="plain text", do="reword it")
        return text

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text; with `special` the tokenizer adds what it puts around any text."""
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _apply(self, turns: Sequence[Turn], *, answer: bool = True, day: datetime = PINNED) -> str:
        turns = [dict(turn) for turn in turns]
        dates = {given: day.strftime(given) for given in ("%d %b %Y", *(found[1] for found in FORMATS.findall(self.source)))}
        if self.folds_system and len(turns) > 1 and turns[0]["role"] == "system":
            instruction = turns.pop(0)["content"]
            turns[0]["content"] = f"{instruction}\n\n{turns[0]['content']}"
        return str(self.tokenizer.apply_chat_template(
            turns, chat_template=(DATED if "strftime_now" in self.source else "") + self.source, tokenize=False,
            add_generation_prompt=answer, enable_thinking=False, date_string=dates["%d %b %Y"],
            pinned_dates={**dates, "": day.date().isoformat()}))

    def _try(self, *turns: tuple[str, str], **options: Any) -> str | None:
        """What the template writes for these turns, or None where it refuses them or leaves a content out."""
        try:
            text = self._apply([{"role": role, "content": content} for role, content in turns], **options)
        except Exception:  # as in `render`: here it is an answer
            return None
        return text if all(content in text for _, content in turns) else None

    def _find_system(self) -> None:
        if self._try(("user", NOW)) is None:
            try:
                reason = f"without the user's text: {self._apply([{'role': 'user', 'content': NOW}])[:80]!r}"
            except Exception as error:
                reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise ModelError(f"a chat template of {self.name} that cannot write a user's message ({reason})",
                             expected="a template that renders a single user turn",
                             do="correct the chat_template of its tokenizer, or remove it to use the model on plain text")
        with_system = ("system", SYSTEM), ("user", NOW)
        self.folds_system = self._try(*with_system) is None
        if any(self._try(*turns) != self._try(*turns, day=OTHER) for turns in ([("user", NOW)], with_system)):
            self.pinned_date = PINNED.date().isoformat()

    def _find_end(self, control: set[str]) -> int | None:
        """The first control token behind an assistant's message that does not open one."""
        said = self._try(("user", ASKED), ("assistant", SAID), answer=False)
        closed, opened = (self._try(("user", ASKED), answer=answer) for answer in (False, True))
        if said is None:
            return None
        opening = opened.removeprefix(closed) if opened and closed else ""
        own = {self.tokenizer.convert_tokens_to_ids(mark) for mark in control} - {self.tokenizer.unk_token_id, None}
        own -= set(self.ids(opening))
        return next((token for token in self.ids(said.rpartition(SAID)[2]) if token in own), None)

    def _written(self, specials: set[str]) -> set[str]:
        """The marks of a turn that the template writes as plain text: bracketed words, headings, names with a colon.

        Words beside a special token ("user") are none: without the token they open no turn, and visitors need them.
        """
        conversation = [("user", ASKED), ("assistant", SAID), ("user", NOW)]
        tries = [[("system", SYSTEM), *conversation], conversation, [("system", SYSTEM), ("user", NOW)], [("user", NOW)]]
        first, *others = CONTENTS.split(next(text for text in (self._try(*turns) for turns in tries) if text is not None))
        # of what stands before the first content only the last line introduces it: the rest may be a sentence anyone may write
        text = "\n".join([first.rstrip().rpartition("\n")[2], *others])
        for special in sorted(specials, key=len, reverse=True):
            text = text.replace(special, "\n")
        lines = (line.strip() for line in BRACKETED.sub("\n", text).split("\n"))
        return {*BRACKETED.findall(text), *(line for line in lines if HEADING.fullmatch(line))}


def _source(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """The template to use: of several by name the one called default."""
    template: Any = tokenizer.chat_template or ""
    if isinstance(template, dict):
        if "default" not in template:
            raise ModelError(f"chat templates of {name} named {', '.join(sorted(template))[:200]}", expected="one named default",
                             do="rename one of them in its tokenizer")
        template = template["default"]
    return str(template)
