"""Layer 2: loading models, and their chat formats. The only package that calls the loaders of transformers."""

from patchlab.models.adapter import Adapter, read_adapter
from patchlab.models.backbone import Backbone
from patchlab.models.chat import ChatFormat, Encoded
from patchlab.models.loading import load_backbone, wrap
from patchlab.models.presets import PRESETS, Preset, first_preset, preset
from patchlab.models.reference import load_reference, with_adapter

__all__ = ["PRESETS", "Adapter", "Backbone", "ChatFormat", "Encoded", "Preset", "first_preset", "load_backbone", "load_reference",
           "preset", "read_adapter", "with_adapter", "wrap"]
