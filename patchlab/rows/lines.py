"""Lines of a stream, never more of one than a row may have, and what a row is read as."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from patchlab.errors import InputError
from patchlab.storage import MAX_ROW

Row = dict[str, Any]
# the line that a row begins on, and the row or what is wrong with it
Found = Generator[tuple[int, Row | InputError], None, None]


class Lines:
    """The lines of a stream without its byte-order mark, never more than MAX_ROW + 1 bytes at once.

    `number` is that of the line read last, `damage` what made reading end early.
    """

    def __init__(self, stream: Any) -> None:
        peeking = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
        packed = peeking.peek(2)[:2] == b"\x1f\x8b"
        self._stream: Any = gzip.GzipFile(fileobj=peeking) if packed else peeking
        self.number, self.whole, self._again = 0, True, deque[bytes]()
        self.damage: InputError | None = None
        self._began = False

    def read(self) -> bytes:
        """The next line, or the next piece of a long one; nothing at the end."""
        try:
            line: bytes = self._again.popleft() if self._again else self._stream.readline(MAX_ROW + 1)
        except (EOFError, OSError, zlib.error) as error:
            self.damage = InputError(f"damaged data, behind which nothing can be read ({error})", expected="a whole file",
                                     do="make or download it again")
            return b""
        if not self._began:
            self._began = True
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                self.damage = InputError("text in UTF-16", expected="UTF-8 text", do="save the file as UTF-8")
                return b""
            line = line.removeprefix(b"\xef\xbb\xbf")
        self.number += bool(line) and self.whole
        self.whole = not line or line.endswith(b"\n")
        return line

    def pass_by(self) -> None:
        """Read what is left of a line of which only a piece was read."""
        while not self.whole:
            self.read()

    def back(self, lines: Sequence[bytes]) -> None:
        """Let the lines read last be read again."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)
        self.whole = True


def too_long() -> InputError:
    """What is wrong with a row beyond the cap."""
    return InputError(f"a row of more than {MAX_ROW} bytes", expected=f"at most {MAX_ROW}", do="shorten that row")
