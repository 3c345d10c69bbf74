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
                    "PATCHLAB_REFERENCE, PATCHLAB_DEVICE, PATCHLAB_BITS, PATCHLAB_AUTH, PATCHLAB_ROOT_PATH, PATCHLAB_MCP, "
                    "PATCHLAB_ALLOW_INSTALL and PATCHLAB_ALLOW_TRAINING.")
    parser.add_argument("--host", metavar="HOST", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65535), metavar="PORT", help="port to listen on (default: 7860)")
    add_models(parser, preset="smollm2 where its weights are installed, else pocket")
    parser.add_argument("--presets", metavar="NAME,...",
                        help="further presets that visitors may switch to; each stays in memory once chosen (default: "
                             "those that are installed; with --base none)")
    parser.add_argument("--auth", metavar="NAME:PASSWORD",
                        help="ask visitors for this name and password; other users of this machine can read options, so better "
                             "set PATCHLAB_AUTH")
    parser.add_argument("--root-path", metavar="PATH", help="the path under which a reverse proxy shows the page, as /patchlab")
    parser.add_argument("--mcp", action="store_true",
                        help="offer the page's endpoints as tools of an MCP server too; needs the package mcp")
    parser.add_argument("--allow-install", action="store_true",
                        help="let visitors install patches, from files and from the Hub, into $PATCHLAB_HOME/patches of this "
                             "server (default: only list and verify)")
    parser.add_argument("--allow-training", action="store_true",
                        help="let visitors train patches and repair models on this server, which takes its processor for "
                             "minutes to hours (default: no)")
    parser.set_defaults(run=start, refuse=parser.error)


def start(args: argparse.Namespace) -> None:
    """Replace this process by `python -m patchlab.ui` with the given options, so that it gets signals and sets the exit code."""
    names = ("host", "port", "preset", "presets", "base", "reference", "device", "bits", "auth", "root_path")
    given = {f"--{name.replace('_', '-')}": getattr(args, name) for name in names}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    options += [f"--{name}" for name in ("mcp", "allow-install", "allow-training") if getattr(args, name.replace("-", "_"))]
    os.execv(sys.executable, [sys.executable, "-m", "patchlab.ui", *options])
