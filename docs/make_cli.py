"""Write docs/cli.md from the help texts of the command line: `python docs/make_cli.py`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from patchlab.cli import build_parser
from patchlab.storage import write_text

PAGE = Path(__file__).with_name("cli.md")
WIDTH = "100"  # columns, whatever the terminal has


def page() -> str:
    """The page as Markdown: every verb with its help, in the order the parser has them."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        parts = [f"## `{parser.prog}`\n\n```\n{parser.format_help().strip()}\n```" for parser in _verbs(build_parser())]
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return "\n\n".join([_INTRODUCTION, *parts]) + "\n"


def _verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and all below it, groups before their verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _verbs(each)


_INTRODUCTION = """# Command line

Written from the help texts by `python docs/make_cli.py`; edit those instead.

Results go to stdout, progress and notes to stderr. With `--json`, stdout holds one JSON object a line.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | an error, as one line on stderr: what was found, what was expected, what to do |
| 2 | wrong usage |
| 130 | stopped by Ctrl-C; for long work the line says how to go on |
| 141 | the program that read the output closed it |"""


if __name__ == "__main__":
    write_text(PAGE, page())
