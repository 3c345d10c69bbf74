"""The models of a page: those it opened with, and the presets that a visitor may switch to, each loaded once at first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from patchlab.errors import ModelError
from patchlab.models import PRESETS, preset
from patchlab.models.machine import memory

if TYPE_CHECKING:
    from patchlab.engine import Lab


class Offered:
    """A page's models by name, `first` among them.

    What is loaded stays for as long as the process runs, so the memory of all is bounded by the list. `load` is called with
    the name of a preset, once for each, however many visitors ask at once.
    """

    def __init__(self, first: Lab, names: Sequence[str], load: Callable[[str], Lab]) -> None:
        self.first = first
        self.titles = {first.name: _title(first.name)} | {name: preset(name).title for name in names}
        self._load = load
        self._loaded = {first.name: first}
        self._locks = {name: Lock() for name in self.titles}

    def loaded(self, name: str) -> bool:
        """Whether a preset is in memory already."""
        return name in self._loaded

    def get(self, name: str) -> Lab:
        """The models of a name, loaded now unless they are. Raises ModelError if memory does not suffice, and as `load`."""
        with self._locks[name]:
            if name not in self._loaded:
                needed, free = preset(name).memory, memory()[1]
                if 0 < free < needed:
                    raise ModelError(f"{free:.1f} GB of free memory", expected=f"about {needed:.1f} GB for preset {name}",
                                     do="choose a smaller preset, or a machine with more memory")
                self._loaded[name] = self._load(name)
            return self._loaded[name]


def _title(name: str) -> str:
    """The title of a preset; any other base is called by its name."""
    return PRESETS[name].title if name in PRESETS else name
