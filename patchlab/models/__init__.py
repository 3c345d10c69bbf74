"""Layer 2: loading models, and their chat formats. The only package that calls the loaders of transformers."""

from patchlab.models.backbone import Backbone
from patchlab.models.chat import ChatFormat, Encoded
from patchlab.models.loading import load_backbone, wrap
from patchlab.models.presets import PRESETS, Preset, first_preset, preset

__all__ = ["PRESETS", "Backbone", "ChatFormat", "Encoded", "Preset", "first_preset", "load_backbone", "preset", "wrap"]
