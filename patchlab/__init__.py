"""Safety patches for language models: make them, stack them, compare patched with unpatched in one pass.

    import patchlab

    lab = patchlab.load()                                   # or load("smollm2-360m"), load(base="path-or-hub-id")
    print(lab.generate("How do I bake bread?", stack="toxicity,refusal:0.5"))

Only records and errors load with the package; the other names load their module when first asked for, so that
`import patchlab` needs neither torch nor gradio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from patchlab.errors import PatchLabError
from patchlab.records import Delta, Measure, Message, Prompt, Reply, Report, Score

__version__ = "0.2.0"

__all__ = [
    "Delta",
    "Lab",
    "Measure",
    "Message",
    "Patch",
    "PatchLabError",
    "Prompt",
    "Reply",
    "Report",
    "Sampling",
    "Score",
    "Stack",
    "__version__",
    "evaluate",
    "load",
    "load_scorer",
    "train",
]

_ROOMS = {
    "Lab": "patchlab.engine",
    "Patch": "patchlab.patches",
    "Sampling": "patchlab.engine",
    "Stack": "patchlab.patches",
    "evaluate": "patchlab.long_work",
    "load": "patchlab.engine",
    "load_scorer": "patchlab.scoring",
    "train": "patchlab.long_work",
}

if TYPE_CHECKING:
    from patchlab.engine import Lab, Sampling, load
    from patchlab.long_work import evaluate, train
    from patchlab.patches import Patch, Stack
    from patchlab.scoring import load_scorer
else:  # hidden from type checkers, to which a module's __getattr__ would make every misspelt name valid

    def __getattr__(name: str) -> object:
        """Load the module of a public name on first use, and keep the name."""
        if name not in _ROOMS:
            raise AttributeError(f"module 'patchlab' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
        return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted({*globals(), *__all__})
