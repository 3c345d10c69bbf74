"""Tokens to text, piece by piece: text is given out only once no further token can change it."""

from __future__ import annotations

from collections.abc import Sequence

from patchlab.models.backbone import Backbone


class StreamedText:
    """One row's tokens as text, given out only once it can no longer change."""

    def __init__(self, backbone: Backbone, before: Sequence[int]) -> None:
        self.tokenizer, self.unseen, self.pieces = backbone.tokenizer, backbone.unseen, backbone.pieces
        # the prompt's last tokens are decoded along, so that a first word keeps the space in front of it; more than two
        # where these begin inside a character, which would spoil the bytes that follow
        self.tokens = next((tail for tail in (list(before[-n:]) for n in (2, 3, 4, 5)) if "�" not in self._decode(tail)),
                           list(before[-2:]))
        self.start, self.read = 0, len(self.tokens)
        self.count = 0

    def add(self, token: int) -> str:
        """The text that is certain after one more token."""
        self.count += 1
        if token in self.unseen:
            return ""
        self.tokens.append(token)
        return self._flush(hold=True)

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._flush(hold=False)

    def _flush(self, *, hold: bool) -> str:
        before = self._before()
        now = self._decode(self.tokens[self.start:])
        # in the middle of a character; or at a token that shows nothing, before which the window must not start
        if (hold and now.endswith("�")) or len(now) == len(before):
            return ""
        self.start, self.read = self.read, len(self.tokens)
        return now[len(before):]

    def _before(self) -> str:
        """What the window's first tokens are by themselves: mostly one token, whose text is remembered."""
        if self.read - self.start != 1:
            return self._decode(self.tokens[self.start:self.read])
        token = self.tokens[self.start]
        if token not in self.pieces:
            self.pieces[token] = self._decode([token])
        return self.pieces[token]

    def _decode(self, tokens: list[int]) -> str:
        # what `decode` does with a list, without finding out first that it is one: that takes as long, at every step of every row
        return str(self.tokenizer._decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopStrings:
    """Cuts a streamed text before the first of some strings to be complete; what may be the beginning of one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings, self.held, self.found = tuple(strings), "", False

    def add(self, piece: str) -> str:
        """The text that is certain after one more piece; once `found`, the text ends with it."""
        text = self.held + piece
        # the one that is complete first, as if characters came one by one: where tokens divide a text must not change it
        places = [(at + len(string), at) for string in self.strings if (at := text.find(string)) >= 0]
        if places:
            self.held, self.found = "", True
            return text[:min(places)[1]]
        most = max(map(len, self.strings)) - 1
        beginning = next((at for at in range(max(0, len(text) - most), len(text))
                          if any(string.startswith(text[at:]) for string in self.strings)), len(text))
        self.held = text[beginning:]
        return text[:beginning]

    def rest(self) -> str:
        """What was held back, at the end."""
        return self.held
