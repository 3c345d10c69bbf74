"""Parses a command line, runs its verb, and turns known errors into one line on stderr and an exit code.

0: done; 1: a PatchLabError or an error of the file system; 2: wrong usage; 130: stopped by Ctrl-C; 141: stdout was closed by
its reader.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from safetensors import SafetensorError

from patchlab import __version__
from patchlab.cli import app, compare, doctor, evaluate, patches, repair, score, train
from patchlab.cli.output import plain
from patchlab.errors import InputError, PatchLabError

GROUPS = (compare, score, evaluate, train, repair, patches, doctor, app)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; each verb sets `run` to its function."""
    parser = argparse.ArgumentParser(
        prog="patchlab", allow_abbrev=False,
        description="Safety patches for language models: train them, combine them, and compare their effects side by side.")
    parser.add_argument("--version", action="version", version=f"patchlab {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for group in GROUPS:
        group.add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; argparse raises SystemExit(2) for wrong usage."""
    return run(build_parser(), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Run the verb that `parser` reads from `argv` and return the exit code; the programs in tools/ use it too."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    args.words = words
    _configure_streams(json=getattr(args, "json", False))
    try:
        args.run(args)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as stop:
        return _leave(130, str(stop) or "stopped")
    except BrokenPipeError:  # as with `| head`
        return _leave(141)
    except PatchLabError as error:
        return _leave(1, str(error))
    except OSError as error:
        where = error.filename if error.filename is not None else "a file or device"
        return _leave(1, str(InputError(f"{where}: {error.strerror or error}", expected="a path that can be read and written",
                                        do="check the path, its permissions and the free space")))
    except SafetensorError as error:
        return _leave(1, str(InputError(
            f"a tensor file cannot be read or written ({error})", expected="an undamaged file and enough disk space",
            do="free space, or remove the damaged file")))


def _configure_streams(*, json: bool) -> None:
    """Make every text printable, and JSON on stdout UTF-8 in every locale.

    A lone surrogate is written as its escape sequence, which JSON decodes to the same character.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8" if json and stream is sys.stdout else None, errors="backslashreplace")


def _leave(code: int, line: str = "") -> int:
    """Flush stdout, print `line` on stderr, and return `code`."""
    try:
        sys.stdout.flush()
    except OSError:  # at exit the interpreter would flush again and print a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if line:
        print(f"patchlab: {' '.join(plain(line).split())}", file=sys.stderr)
    return code
