"""Layer 6: the command line, a thin face over the same verbs as Python. One file a group of verbs.

Nothing heavy loads before a verb needs it: `patchlab --help` and `patchlab patches list` never load a model library.
"""

from patchlab.cli.shell import build_parser, main

__all__ = ["build_parser", "main"]
