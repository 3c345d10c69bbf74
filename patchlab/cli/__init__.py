"""Layer 7: the command line, a thin interface to the same functions as in Python. One module per verb.

No model library is imported before a verb needs it: `patchlab --help` and `patchlab patches list` import none.
"""

from patchlab.cli.shell import build_parser, main

__all__ = ["build_parser", "main"]
