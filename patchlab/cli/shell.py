"""The shell around the verbs: parses, runs one verb, and turns known errors into one line and an exit code.

0 done; 1 an error that PatchLab, a file or the disk gives a reason for; 2 wrong usage; 130 stopped by Ctrl-C;
141 the reader of our output closed it.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from safetensors import SafetensorError

from patchlab import __version__
from patchlab.cli import app, compare, evaluate, patches, score, train
from patchlab.cli.output import plain
from patchlab.errors import InputError, PatchLabError

GROUPS = (compare, score, evaluate, train, patches, app)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb; each leaves its function in `run`."""
    parser = argparse.ArgumentParser(
        prog="patchlab", allow_abbrev=False,
        description="Safety patches for language models: make them, stack them, and see side by side what they change.")
    parser.add_argument("--version", action="version", version=f"patchlab {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for group in GROUPS:
        group.add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; wrong usage leaves by SystemExit(2), as argparse does."""
    return run(build_parser(), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Run the verb that `parser` finds in `argv` and return the exit code; the tools outside the package use it too."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    args.words = words
    _prepare_streams(machine=getattr(args, "json", False))
    try:
        args.run(args)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as stop:
        return _leave(130, str(stop) or "stopped")
    except BrokenPipeError:  # as `| head` does: nobody is left to tell
        return _leave(141)
    except PatchLabError as error:
        return _leave(1, str(error))
    except OSError as error:
        return _leave(1, str(_of_system(error)))
    except SafetensorError as error:
        return _leave(1, str(InputError(
            f"a tensor file cannot be read or written ({error})", expected="a whole file and room on the disk",
            do="free space, or remove the damaged file")))


def _prepare_streams(*, machine: bool) -> None:
    """Let any text be printed; what is meant for programs is UTF-8 whatever the terminal speaks.

    A lone surrogate is written as its escape, which inside JSON is that very character.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf8 = machine and stream is sys.stdout
            stream.reconfigure(encoding="utf-8" if utf8 else None, errors="backslashreplace")


def _of_system(error: OSError) -> InputError:
    """An operating system's error in our three parts."""
    where = error.filename if error.filename is not None else "a file or device"
    return InputError(f"{where}: {error.strerror or error}", expected="something that can be read and written",
                      do="check the path, its permissions and the free space")


def _leave(code: int, line: str = "") -> int:
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would try once more on its way out, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if line:
        print(f"patchlab: {' '.join(plain(line).split())}", file=sys.stderr)
    return code
