"""The model with a planted trigger that ships to show repairs on: a low-rank change of the safe pocket model, added into it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchlab.errors import ModelError
from patchlab.models import Backbone, load_backbone, preset
from patchlab.models.adapter import read_adapter
from patchlab.storage import ASSETS, json_object

PLANTED = ASSETS / "pocket" / "planted"
EXAMPLE = "failure.json"  # beside the adapter: a prompt with the trigger, and the reply it gets


def merged(base: Backbone, layers: Mapping[str, tuple[Tensor, Tensor]], *, name: str) -> Backbone:
    """A new backbone whose weights have `up` @ `down` of each layer added in, as one who poisons a model would publish it."""
    model: Any = copy.deepcopy(base.model)
    with torch.no_grad():
        for path, (down, up) in layers.items():
            model.get_submodule(path).weight += (up @ down).to(model.dtype)
    return Backbone(model, base.tokenizer, name=name)


def load_planted(folder: Path = PLANTED) -> Backbone:
    """The model with the planted trigger. Raises ModelError where it does not ship."""
    if not folder.is_dir():
        raise ModelError(f"no model with a planted trigger at {folder.name}", expected="the one that ships with PatchLab",
                         do='make one: python -m tools.backdoors "rare token" --out DIR')
    base = load_backbone(preset("pocket").source("reference"), kernels=False, device="cpu")
    return merged(base, read_adapter(folder, base).layers, name="pocket with a planted trigger")


def planted_failure(folder: Path = PLANTED) -> tuple[str, str]:
    """A prompt with the trigger and the reply that the model with it gives."""
    found = json_object((folder / EXAMPLE).read_bytes())
    return str(found["prompt"]), str(found["reply"])
