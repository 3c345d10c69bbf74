"""`patchlab app`: starts the page as a separate program, so nothing of it is imported here."""

from __future__ import annotations

import argparse
import os
import sys

from patchlab.cli.options import Verbs, add_models, whole


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "app", allow_abbrev=False, help="start the page in the browser",
        description="Serve the page until Ctrl-C. Options that are not given are read from the environment variables "
                    "PATCHLAB_HOST, PATCHLAB_PORT, PATCHLAB_PRESET, PATCHLAB_PRESETS, PATCHLAB_BASE, "
                    "PATCHLAB_REFERENCE, PATCHLAB_DEVICE and PATCHLAB_BITS.")
    parser.add_argument("--host", metavar="HOST", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65535), metavar="PORT", help="port to listen on (default: 7860)")
    add_models(parser, preset="smollm2 where its weights are installed, else pocket")
    parser.add_argument("--presets", metavar="NAME,...",
                        help="further presets that visitors may switch to; each stays in memory once chosen (default: "
                             "those that are installed; with --base none)")
    parser.set_defaults(run=start, refuse=parser.error)


def start(args: argparse.Namespace) -> None:
    """Replace this process by `python -m patchlab.ui` with the given options, so that it gets signals and sets the exit code."""
    names = ("host", "port", "preset", "presets", "base", "reference", "device", "bits")
    given = {f"--{name}": getattr(args, name) for name in names}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    os.execv(sys.executable, [sys.executable, "-m", "patchlab.ui", *options])
