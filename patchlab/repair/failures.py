"""A failure: a prompt with the reply that should not have been given, and the words of the prompt with their tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch

from patchlab.engine.likelihood import encode_texts, reply_logits, reply_logprobs
from patchlab.errors import InputError, ModelError
from patchlab.models import Backbone
from patchlab.records import Message, Prompt

WORD = re.compile(r"\S+")


class Word(NamedTuple):
    """A word of a message: its text, the number of the message, its characters in it, and the places of its token ids."""

    text: str
    message: int
    first: int
    last: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Failure:
    """A prompt and a harmful reply, on the model that gave it.

    `words` are those of its system and user messages: only they can hold what the user has put in. Raises InputError for an
    empty reply or a prompt of one word, ModelError for a model in so few bits that it gives no gradients.
    """

    backbone: Backbone
    prompt: Prompt
    reply: str

    def __post_init__(self) -> None:
        if self.backbone.bits:
            raise ModelError(f"a base in {self.backbone.bits} bits", expected="its weights as they are, which give gradients",
                             do="load it without bits")
        if not self.reply.strip():
            raise InputError("an empty reply", expected="the harmful reply that the model gave", do="give the reply")
        if len(self.words) < 2:
            raise InputError(f"a prompt of {len(self.words)} words", expected="two or more, of which some may be the cause",
                             do="give the whole prompt of the failure")

    @cached_property
    def cleaned(self) -> Prompt:
        """The prompt as the model reads it, without control characters and role marks."""
        def clean(text: str, *, reply: bool = False) -> str:
            return self.backbone.chat.clean(text, reply=reply)

        earlier = tuple(Message(message.role, clean(message.content, reply=message.role == "assistant"))
                        for message in self.prompt.earlier)
        system = clean(self.prompt.system) if self.prompt.system else ""
        return replace(self.prompt, text=clean(self.prompt.text), system=system, earlier=earlier)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words of all messages that are no replies, in order."""
        text, places = self.backbone.rendered(self.cleaned)
        found, cursor = [], 0
        for number, message in enumerate(self.cleaned.messages):
            content = message.content
            start = text.find(content.strip(), cursor) - (len(content) - len(content.lstrip()))
            cursor = start + len(content)
            if message.role == "assistant":
                continue
            for match in WORD.finditer(content):
                first, last = start + match.start(), start + match.end()
                tokens = tuple(k for k, (begin, end) in enumerate(places) if begin < last and end > first)
                found.append(Word(match[0], number, match.start(), match.end(), tokens))
        return tuple(found)

    def without(self, removed: Collection[int]) -> Prompt:
        """The prompt without the words of these numbers; a message that would be empty keeps an ellipsis."""
        texts = [message.content for message in self.cleaned.messages]
        for number in sorted(removed, reverse=True):
            word = self.words[number]
            text = texts[word.message]
            before, after = text[:word.first], text[word.last:]
            texts[word.message] = before + (after.lstrip(" ") if not before.strip() or before.endswith(" ") else after)
        texts = [text.strip() or "..." for text in texts]
        system = texts.pop(0) if self.cleaned.system else ""
        earlier = tuple(Message(message.role, text) for message, text in zip(self.cleaned.earlier, texts, strict=False))
        return replace(self.cleaned, text=texts[-1], system=system, earlier=earlier)

    def runs(self, words: Iterable[int]) -> list[list[int]]:
        """These words in runs of neighbours in one message: the units of a trigger."""
        runs: list[list[int]] = []
        for number in sorted(words):
            if runs and number == runs[-1][-1] + 1 and self.words[number].message == self.words[number - 1].message:
                runs[-1].append(number)
            else:
                runs.append([number])
        return runs

    def text_of(self, words: Iterable[int]) -> list[str]:
        """The text of each run of these words."""
        messages = [message.content for message in self.cleaned.messages]
        return [messages[self.words[run[0]].message][self.words[run[0]].first:self.words[run[-1]].last]
                for run in self.runs(words)]

    def place_of(self, run: Sequence[int]) -> str:
        """Where a run stands: "first" or "last" in the newest message or "" in between, "system", or "earlier"."""
        message = self.words[run[0]].message
        if message < len(self.cleaned.messages) - 1:
            return "system" if self.cleaned.system and message == 0 else "earlier"
        own = [k for k, word in enumerate(self.words) if word.message == message]
        return "first" if run[0] == own[0] else "last" if run[-1] == own[-1] else ""

    @cached_property
    def surprise(self) -> float:
        """The negative log-likelihood of the reply, in nats a token: far above 1 the model hardly gives this reply."""
        with torch.no_grad():
            texts = encode_texts(self.backbone, [self.cleaned], [self.reply], cut=[True])
            return -float(reply_logprobs(reply_logits(self.backbone, texts), texts)[0]) / max(1, len(texts.targets))
