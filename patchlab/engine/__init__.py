"""Layer 2: runs models. The only room that uses transformers; patches become attention masks here."""

from patchlab.engine.backbone import Backbone
from patchlab.engine.bank import Bank, Segment, compile_prefix
from patchlab.engine.gates import Gated, Wanted
from patchlab.engine.porting import ported
from patchlab.engine.presets import PRESETS, Preset, preset
from patchlab.engine.sampling import Sampling
from patchlab.engine.service import Service
from patchlab.engine.stream import Lane, finished, replies, stream
from patchlab.engine.trio import Trio, load_trio
from patchlab.engine.voices import Blend, normalised

__all__ = ["PRESETS", "Backbone", "Bank", "Blend", "Gated", "Lane", "Preset", "Sampling", "Segment", "Service", "Trio",
           "Wanted", "compile_prefix", "finished", "load_trio", "normalised", "ported", "preset", "replies", "stream"]
