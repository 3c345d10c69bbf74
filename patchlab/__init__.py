"""Safety patches for language models: make them, stack them, compare patched with unpatched in one pass.

Only records and errors load with the package; the other names load their room when first asked for,
so `import patchlab` needs neither torch nor gradio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from patchlab.errors import PatchLabError
from patchlab.records import Delta, Measure, Prompt, Reply, Report, Score

__version__ = "0.1.0"

__all__ = [
    "Delta",
    "Measure",
    "Patch",
    "PatchLabError",
    "Prompt",
    "Reply",
    "Report",
    "Sampling",
    "Score",
    "Stack",
    "Trio",
    "__version__",
    "load_scorer",
    "load_trio",
]

_ROOMS = {
    "Patch": "patchlab.patches",
    "Stack": "patchlab.patches",
    "load_scorer": "patchlab.scoring",
    "Sampling": "patchlab.engine",
    "Trio": "patchlab.engine",
    "load_trio": "patchlab.engine",
}

if TYPE_CHECKING:
    from patchlab.engine import Sampling, Trio, load_trio
    from patchlab.patches import Patch, Stack
    from patchlab.scoring import load_scorer
else:  # hidden from type checkers, to which a module's __getattr__ would make every misspelt name valid

    def __getattr__(name: str) -> object:
        """Load the room of a public name on first use, and keep the name."""
        if name not in _ROOMS:
            raise AttributeError(f"module 'patchlab' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
        return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted({*globals(), *__all__})
