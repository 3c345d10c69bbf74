"""Layer 2: loads models. The only room that uses the loaders of transformers."""

from patchlab.models.backbone import Backbone
from patchlab.models.presets import PRESETS, Preset, preset

__all__ = ["PRESETS", "Backbone", "Preset", "preset"]
