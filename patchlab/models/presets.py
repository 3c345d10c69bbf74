"""Named pairs of a base and a safer reference. `pocket` ships with PatchLab; the others are loaded from the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchlab.errors import ModelError, NotFoundError
from patchlab.storage import ASSETS


@dataclass(frozen=True, slots=True)
class Preset:
    """A base and, optionally, its reference; both are folders under assets/ (`embedded`) or Hub ids.

    `judges` names the set of judges that its replies are scored by; without one it is the default of the scorer table.
    """

    name: str
    title: str
    base: str
    reference: str | None
    about: str
    embedded: bool = False
    judges: str = ""

    def source(self, lane: str) -> str | Path:
        """The folder or Hub id of lane `base` or `reference`. Raises ModelError for a preset without a reference."""
        source = self.base if lane == "base" else self.reference
        if source is None:
            raise ModelError(f"preset {self.name!r} has no reference", expected="a preset with one", do="name a reference")
        if not self.embedded:
            return source
        folder = ASSETS / source
        if not (folder / "config.json").is_file():
            raise ModelError(f"no embedded model at {folder}", expected="the models that ship with PatchLab",
                             do="install PatchLab again, or run `python -m tools.pocket build` in a checkout")
        return folder


PRESETS = {preset.name: preset for preset in (
    Preset("pocket", "Pocket (embedded)", "pocket/base", "pocket/reference",
           "Two models of 4 million parameters, trained by PatchLab on generated text only: they demonstrate how patching "
           "works and are no evidence about the safety of real models.",
           embedded=True, judges="coarse"),  # the words of its made world are what the coarse judges were fitted on
    Preset("qwen2.5-0.5b", "Qwen2.5 0.5B", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct",
           "A raw base model and the same model after instruction and safety training."),
    Preset("qwen2.5-1.5b", "Qwen2.5 1.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B-Instruct",
           "A raw base model and the same model after instruction and safety training."),
    Preset("mistral-7b", "Mistral 7B", "mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.3",
           "A raw base model and a later instruction-tuned release."),
    Preset("smollm2-360m", "SmolLM2 360M", "HuggingFaceTB/SmolLM2-360M", "HuggingFaceTB/SmolLM2-360M-Instruct",
           "A raw base model and the same model after instruction and safety training."),
    Preset("llama-2-7b", "Llama 2 7B and Llama 3 8B", "meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B-Instruct",
           "The pair of the safety policy patching paper; both need an accepted licence on the Hub and a GPU."),
)}


def preset(name: str) -> Preset:
    """The preset of that name. Raises NotFoundError with similar names."""
    if name not in PRESETS:
        raise NotFoundError.of("preset", name, PRESETS)
    return PRESETS[name]
