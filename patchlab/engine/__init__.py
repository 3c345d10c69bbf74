"""Layer 3: patches become attention masks here, and rows of any number of requests decode together."""

from patchlab.engine.forward_rows import Blend, normalised
from patchlab.engine.gates import Gated, Wanted
from patchlab.engine.lab import Trio, load_trio
from patchlab.engine.lanes import Lane, finished, replies, stream
from patchlab.engine.sampler import Sampling
from patchlab.engine.segments import Bank, Segment, compile_prefix
from patchlab.engine.service import Service

__all__ = ["Bank", "Blend", "Gated", "Lane", "Sampling", "Segment", "Service", "Trio", "Wanted", "compile_prefix",
           "finished", "load_trio", "normalised", "replies", "stream"]
