"""Layer 2: loads models. The only room that uses the loaders of transformers."""

from patchlab.models.backbone import Backbone
from patchlab.models.presets import PRESETS, Preset, preset


def load_backbone(source, *, device_map=None, kernels=True, **options):
    return Backbone.load(source, packed=kernels, **options)


def wrap(model, tokenizer, *, name=""):
    return Backbone(model, tokenizer, name=name or "model")


__all__ = ["PRESETS", "Backbone", "Preset", "load_backbone", "preset", "wrap"]
