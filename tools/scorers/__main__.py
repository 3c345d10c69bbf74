"""Fit the embedded scorers, measure them, and write them with their README.

    python -m tools.scorers --data DATA [--extra made.jsonl] [--out assets/scorers]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from patchlab.errors import PatchLabError
from patchlab.scoring.embedded import FOLDER
from tools.scorers.build import build


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 done, 1 a PatchLab error as one line."""
    parser = argparse.ArgumentParser(prog="python -m tools.scorers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of public sets")
    parser.add_argument("--extra", type=Path, help="JSON Lines of text, label, task and optionally prompt")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args(arguments)
    try:
        build(given.data, given.extra, given.out)
    except PatchLabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
