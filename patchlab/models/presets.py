"""Named pairs of a base and a safer reference: those that ship with PatchLab, SmolLM2 from a package, and others of the Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from patchlab.errors import ModelError, NotFoundError
from patchlab.models.converted import converted, entry_folder, is_whole
from patchlab.models.open_weights import SMOLLM2, OpenWeights, convertible
from patchlab.models.sources import ADAPTER, CONFIG
from patchlab.storage import ASSETS

SMALL = 1.2  # billion parameters up to which a model runs in float32 on a CPU, see `loading`
PACKED, HALF = 6, 2  # bytes a parameter: float32 with weights packed as float16; bfloat16
REST = 0.8  # GB of the program itself


@dataclass(frozen=True, slots=True)
class Preset:
    """A base and, optionally, its reference.

    `base` and `reference` are Hub ids, folders under assets/ if `embedded`, or with `weights` the name of open weights and the
    folder under assets/ of a low-rank adapter for them. `sizes` are the billions of parameters of base and reference; an
    adapter adds next to nothing. `gated` models need a licence that is accepted on the Hub.
    `judges` names the set of judges that replies are scored by; without one it is the default of the scorer table.
    """

    name: str
    title: str
    base: str
    reference: str | None
    about: str
    licence: str
    sizes: tuple[float, ...]
    embedded: bool = False
    gated: bool = False
    weights: OpenWeights | None = None

    @property
    def memory(self) -> float:
        """About how many GB of memory both models need on a CPU."""
        return REST + sum(size * (PACKED if size < SMALL else HALF) for size in self.sizes)

    @property
    def needs(self) -> str:
        """What has to be there before it loads, in a few words."""
        if self.embedded:
            return "nothing"
        if self.weights:
            return f"{self.weights.pip}, or the Hub"
        return "the Hub, its licence accepted there and `hf auth login`" if self.gated else "the Hub"

    def installed(self) -> bool:
        """Whether the base is on this machine, so that it loads without the network; models of the Hub are not looked up."""
        if self.weights:
            return convertible(self.weights) or is_whole(entry_folder(self.weights), self.weights)
        return self.embedded

    @property
    def has_reference(self) -> bool:
        """Whether there is a reference; of open weights it is an adapter that may not be here."""
        return self.reference is not None and (not self.weights or (ASSETS / self.reference / ADAPTER).is_file())
    judges: str = ""
    gates: bool = False  # whether its patches are used with their gates unless asked otherwise

    def source(self, lane: str) -> str | Path:
        """The folder or Hub id of lane `base` or `reference`. Open weights are converted at the first call.

        Raises ModelError for a preset without a reference or without its embedded files, and as `converted`.
        """
        if lane == "base":
            return converted(self.weights) if self.weights else self._whole(self.base) if self.embedded else self.base
        found = self.reference_source()
        if found is None:
            raise ModelError(f"preset {self.name!r} has no reference", expected="a preset with one", do="name a reference")
        return found

    def reference_source(self) -> str | Path | None:
        """As `source("reference")`, but None where there is none: open weights whose adapter is not there have no reference."""
        if self.reference is None or not self.has_reference:
            return None
        return ASSETS / self.reference if self.weights else self._whole(self.reference) if self.embedded else self.reference

    def _whole(self, name: str) -> Path:
        folder = ASSETS / name
        if not any((folder / each).is_file() for each in (CONFIG, ADAPTER)):
            raise ModelError(f"no embedded model at {folder}", expected="the models that ship with PatchLab",
                             do="install PatchLab again, or run `python -m tools.pocket build` in a checkout")
        return folder


RAW, RELEASED = "A raw base model and the same model after", "instruction and safety training."
PRESETS = {preset.name: preset for preset in (
    Preset("pocket", "Pocket", "pocket/base", "pocket/reference",
           "Two models of 4 million parameters, trained by PatchLab on generated text only: they demonstrate how patching "
           "works and are no evidence about the safety of real models.",
           "Apache-2.0", (0.004, 0.004), embedded=True,
           judges="coarse"),  # the words of its made world are what the coarse judges were fitted on
    Preset("smollm2", "SmolLM2 135M", SMOLLM2.name, "smollm2/reference",
           "SmolLM2-135M-Instruct, an open model that refuses almost no harmful request, in the four-bit weights of its package.",
           "Apache-2.0", (0.135,), weights=SMOLLM2, gates=True),
    Preset("smollm2-360m", "SmolLM2 360M", "HuggingFaceTB/SmolLM2-360M", "HuggingFaceTB/SmolLM2-360M-Instruct",
           f"{RAW} {RELEASED}", "Apache-2.0", (0.36, 0.36)),
    Preset("smollm2-1.7b", "SmolLM2 1.7B", "HuggingFaceTB/SmolLM2-1.7B", "HuggingFaceTB/SmolLM2-1.7B-Instruct",
           f"{RAW} {RELEASED}", "Apache-2.0", (1.7, 1.7)),
    Preset("qwen2.5-0.5b", "Qwen2.5 0.5B", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", f"{RAW} {RELEASED}",
           "Apache-2.0", (0.5, 0.5)),
    Preset("qwen2.5-1.5b", "Qwen2.5 1.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B-Instruct", f"{RAW} {RELEASED}",
           "Apache-2.0", (1.5, 1.5)),
    Preset("qwen3-0.6b", "Qwen3 0.6B", "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-0.6B",
           f"{RAW} {RELEASED} Templates are rendered with thinking off.", "Apache-2.0", (0.6, 0.6)),
    Preset("granite-4.0-350m", "Granite 4.0 350M", "ibm-granite/granite-4.0-350m-base", "ibm-granite/granite-4.0-350m",
           f"{RAW} {RELEASED} The dense models of the family: those named -h are hybrids.", "Apache-2.0", (0.35, 0.35)),
    Preset("granite-4.0-1b", "Granite 4.0 1B", "ibm-granite/granite-4.0-1b-base", "ibm-granite/granite-4.0-1b",
           f"{RAW} {RELEASED} The dense models of the family: those named -h are hybrids.", "Apache-2.0", (1.6, 1.6)),
    # a release history: each preset's reference is the next one's base
    Preset("olmo2-1b-sft", "OLMo 2 1B: base to SFT", "allenai/OLMo-2-0425-1B", "allenai/OLMo-2-0425-1B-SFT",
           f"{RAW} supervised fine-tuning.", "Apache-2.0", (1.5, 1.5)),
    Preset("olmo2-1b-dpo", "OLMo 2 1B: SFT to DPO", "allenai/OLMo-2-0425-1B-SFT", "allenai/OLMo-2-0425-1B-DPO",
           "Two releases in a row: after supervised fine-tuning and after preference training.", "Apache-2.0", (1.5, 1.5)),
    Preset("olmo2-1b-instruct", "OLMo 2 1B: DPO to Instruct", "allenai/OLMo-2-0425-1B-DPO", "allenai/OLMo-2-0425-1B-Instruct",
           "Two releases in a row: after preference training and after reinforcement learning.", "Apache-2.0", (1.5, 1.5)),
    Preset("llama-3.2-1b", "Llama 3.2 1B", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct", f"{RAW} {RELEASED}",
           "Llama 3.2 Community License", (1.24, 1.24), gated=True),
    Preset("gemma-3-1b", "Gemma 3 1B", "google/gemma-3-1b-pt", "google/gemma-3-1b-it", f"{RAW} {RELEASED}",
           "Gemma Terms of Use", (1.0, 1.0), gated=True),
    Preset("mistral-7b", "Mistral 7B", "mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.3",
           "A raw base model and a later instruction-tuned release.", "Apache-2.0", (7.2, 7.2)),
    Preset("llama-2-7b", "Llama 2 7B and Llama 3 8B", "meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B-Instruct",
           "The pair of the safety policy patching paper.", "Llama 2 and Llama 3 Community Licenses", (6.7, 8.0), gated=True),
)}


def preset(name: str) -> Preset:
    """The preset of that name. Raises NotFoundError with similar names."""
    if name not in PRESETS:
        raise NotFoundError.of("preset", name, PRESETS)
    return PRESETS[name]


def first_preset() -> Preset:
    """The preset to show: SmolLM2 where its weights are installed, or on Spaces, which has the Hub at hand; else pocket."""
    smollm2 = PRESETS["smollm2"]
    return smollm2 if smollm2.installed() or os.environ.get("SPACE_ID") else PRESETS["pocket"]
