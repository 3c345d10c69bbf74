"""Incremental detokenization: text is returned only when no further token can change it."""

from __future__ import annotations

from collections.abc import Sequence

from patchlab.models.backbone import Backbone


class StreamedText:
    """The text of one row, returned incrementally and only when it can no longer change."""

    def __init__(self, backbone: Backbone, before: Sequence[int]) -> None:
        self.tokenizer, self.unseen, self.pieces = backbone.tokenizer, backbone.unseen, backbone.pieces
        # the last 2 prompt tokens are decoded with the reply, so that its first word keeps its leading space; more if they begin
        # inside a multi-byte character, which would corrupt the bytes that follow
        self.tokens = next((tail for tail in (list(before[-n:]) for n in (2, 3, 4, 5)) if "�" not in self._decode(tail)),
                           list(before[-2:]))
        self.start, self.read = 0, len(self.tokens)
        self.count = 0

    def add(self, token: int) -> str:
        """The final text that one more token adds."""
        self.count += 1
        if token in self.unseen:
            return ""
        self.tokens.append(token)
        return self._flush(hold=True)

    def rest(self) -> str:
        """The text that is still held back, at the end of the row."""
        return self._flush(hold=False)

    def _flush(self, *, hold: bool) -> str:
        before = self._before()
        now = self._decode(self.tokens[self.start:])
        # inside a multi-byte character; or after a token without text, which cannot be the start of the window
        if (hold and now.endswith("�")) or len(now) == len(before):
            return ""
        self.start, self.read = self.read, len(self.tokens)
        return now[len(before):]

    def _before(self) -> str:
        """The text of the window's first tokens alone; that of a single token, the usual case, is cached."""
        if self.read - self.start != 1:
            return self._decode(self.tokens[self.start:self.read])
        token = self.tokens[self.start]
        if token not in self.pieces:
            self.pieces[token] = self._decode([token])
        return self.pieces[token]

    def _decode(self, tokens: list[int]) -> str:
        # `decode` first checks the type of its argument, which takes as long as decoding, at every step of every row
        return str(self.tokenizer._decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopStrings:
    """Ends a streamed text before the first stop string; text that may be the beginning of one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings, self.held, self.found = tuple(strings), "", False

    def add(self, piece: str) -> str:
        """The final text that one more piece adds; once `found` is set, it is the last."""
        text = self.held + piece
        # the stop string that ends first, as if characters came singly: token boundaries must not change the result
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
        """The text that is still held back, at the end of the row."""
        return self.held
