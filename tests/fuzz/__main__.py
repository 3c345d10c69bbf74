"""Run the whole fuzz, 20,000 inputs a reader: `python -m tests.fuzz`, with pytest's own options behind it."""

import os
import sys
from pathlib import Path

import pytest

os.environ["PATCHLAB_FUZZ"] = "full"
raise SystemExit(pytest.main([str(Path(__file__).parent), "--durations=0", *sys.argv[1:]]))
