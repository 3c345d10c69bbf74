"""Fit the embedded scorers, measure them, and write them with their README.

    python -m tools.scorers --data DATA [--extra made.jsonl] [--out assets/scorers]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from patchlab.cli.shell import run
from patchlab.scoring.embedded import FOLDER
from tools.scorers.build import build


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.scorers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of public sets")
    parser.add_argument("--extra", type=Path, help="JSON Lines of text, label, task and optionally prompt")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.set_defaults(run=lambda given: build(given.data, given.extra, given.out))
    return run(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
