"""Rows of JSON Lines, of a JSON array, and of JSON objects one behind another."""

from __future__ import annotations

import re

from patchlab.errors import InputError
from patchlab.rows.lines import Found, Lines, Row, too_long
from patchlab.storage import MAX_ROW, parse_row

_MARKS = re.compile(rb'\\.|["\[\]{},]', re.DOTALL)


def parsed(data: bytes) -> Row | InputError:
    """The object that `data` is, or why it is none."""
    try:
        return parse_row(data)
    except InputError as error:
        return error


def json_lines(lines: Lines) -> Found:
    """One object a line; blank lines do not count."""
    for line in iter(lines.read, b""):
        number = lines.number
        if len(line) > MAX_ROW:
            lines.pass_by()
            yield number, too_long()
        elif data := line.strip():
            yield number, parsed(data)


class _Value:
    """The bytes of a JSON value so far, none of one that is too long, and the line it begins on."""

    def __init__(self) -> None:
        self.data, self.line, self.long = bytearray(), 0, False

    def add(self, data: bytes, number: int) -> None:
        if not self.line and data.strip():
            self.line = number
        if self.line:
            self.long = self.long or len(self.data) + len(data) > MAX_ROW
            self.data += b"" if self.long else data

    def row(self) -> Row | InputError:
        return too_long() if self.long else parsed(bytes(self.data))


def json_values(lines: Lines, *, listed: bool) -> Found:
    """The values of an array (`listed`), or of values one behind another; one that is wrong spoils no other."""
    value, depth, quoted, held = _Value(), 0, False, b""
    for line in iter(lines.read, b""):
        line, at = held + line, 0
        held = b"\\" if (len(line) - len(line.rstrip(b"\\"))) % 2 else b""  # half an escape, where a long line is cut
        for found in _MARKS.finditer(line, 0, len(line) - len(held)):
            mark = found.group()
            if mark == b'"':
                quoted = not quoted
            elif quoted or len(mark) > 1:
                continue
            elif mark in (b"[", b"{"):
                depth += 1
                at = found.end() if listed and depth == 1 else at  # behind the bracket that opens the array
            else:
                depth = max(0, depth - (mark != b","))
                if (listed and depth == 1) if mark == b"," else depth == 0:
                    value.add(line[at:found.start() if listed else found.end()], lines.number)
                    at, listed = found.end(), depth == 1
                    if value.line or mark == b",":
                        yield value.line or lines.number, value.row()
                    value = _Value()
        value.add(line[at:len(line) - len(held)], lines.number)
        quoted = quoted and not lines.whole  # no string goes on behind the end of its line
    if value.line:
        yield value.line, value.row()
    if listed:
        yield lines.number, InputError("an array that is not closed", expected="a whole file", do="make or download it again")
