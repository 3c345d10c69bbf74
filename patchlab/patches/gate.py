"""A gate: a linear probe on the base's hidden state that decides for which prompts a patch is on. Loads no model.

The hidden state [D] is the output of one decoder layer of the base, without patches, at the prompt's last token. Where
weight . state + bias is below 0 the patch is off for that prompt.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import GATE_FILE
from patchlab.patches.weights import frozen_copy, read_floats

MAX_LAYER = 4095  # float32 represents integers of this size exactly
SCALARS = ("bias", "layer")


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`layer` counts decoder layers from 0, `weight` is [D] float32 and read-only, `bias` includes the decision threshold.

    Two gates are equal when all three are, bit for bit. Raises PatchFormatError for another shape or dtype and for NaN or
    infinite numbers.
    """

    layer: int
    weight: NDArray[np.float32]
    bias: float
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        vector = isinstance(self.weight, np.ndarray) and self.weight.dtype == np.float32 and self.weight.ndim == 1
        bias = float(np.float32(self.bias))
        if not vector or not np.isfinite(self.weight).all() or not np.isfinite(bias):
            raise PatchFormatError("a gate whose weight or bias is not float32 or not finite",
                                   expected="a weight [D] and a bias, all finite", do="fit the gate again")
        if type(self.layer) is not int or not 0 <= self.layer <= MAX_LAYER:
            raise PatchFormatError(f"a gate on layer {str(self.layer)[:40]}", expected=f"a whole number from 0 to {MAX_LAYER}",
                                   do="get the patch again from its vendor")
        object.__setattr__(self, "weight", frozen_copy(self.weight))
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "digest", hashlib.sha256(encode_gate(self)).hexdigest())

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Gate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def encode_gate(gate: Gate) -> bytes:
    """The bytes of gate.safetensors: `weight` [D], `bias` [1] and `layer` [1], all float32."""
    scalars = {name: np.array([getattr(gate, name)], dtype="<f4") for name in SCALARS}
    return save({"weight": np.ascontiguousarray(gate.weight, dtype="<f4"), **scalars})


def decode_gate(data: bytes, *, width: int) -> Gate:
    """The gate in the bytes of gate.safetensors, for a base of width D. Raises PatchFormatError as `read_floats` does."""
    tensors = read_floats(data, {"weight": (width,), **dict.fromkeys(SCALARS, (1,))}, file=GATE_FILE)
    layer = float(tensors["layer"][0])
    if not layer.is_integer():
        raise PatchFormatError(f"{GATE_FILE} holds layer {layer:g}", expected="a whole number",
                               do="get the patch again from its vendor")
    return Gate(int(layer), tensors["weight"], float(tensors["bias"][0]))
