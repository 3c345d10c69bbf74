"""A gate: the small probe that says for which prompts a patch is to be on. Three tensors on disk, and no model here.

A prompt's state is the output of one decoder layer of the bare base at the prompt's last token. The gate is linear in it:
where weight . state + bias is below 0 the prompt is let through, which means that the patch is off for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import GATE_FILE
from patchlab.patches.weights import read_floats

MAX_LAYER = 4095  # float32 holds such numbers exactly
SCALARS = ("bias", "layer")


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`layer` counts decoder layers from 0; `weight` is [D] float32, read-only; `bias` holds the threshold too.

    Equal when all three are, bit for bit. Raises PatchFormatError for another shape or numbers that are not finite.
    """

    layer: int
    weight: NDArray[np.float32]
    bias: float
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        array = isinstance(self.weight, np.ndarray) and self.weight.dtype == np.float32 and self.weight.ndim == 1
        bias = float(np.float32(self.bias))
        if not array or not np.isfinite(self.weight).all() or not np.isfinite(bias):
            raise PatchFormatError("a gate whose weight or bias is no float32 vector or number",
                                   expected="a weight [D] and a bias, all finite", do="fit the gate again")
        if type(self.layer) is not int or not 0 <= self.layer <= MAX_LAYER:
            raise PatchFormatError(f"a gate on layer {str(self.layer)[:40]}", expected=f"a whole number from 0 to {MAX_LAYER}",
                                   do="get the patch again from its vendor")
        own = np.array(self.weight, order="C")
        own.flags.writeable = False
        object.__setattr__(self, "weight", own)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "digest", hashlib.sha256(encode_gate(self)).hexdigest())

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Gate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def encode_gate(gate: Gate) -> bytes:
    """A gate as the bytes of a safetensors file: `weight` [D], `bias` [1] and `layer` [1], all float32."""
    scalars = {name: np.array([getattr(gate, name)], dtype="<f4") for name in SCALARS}
    return save({"weight": np.ascontiguousarray(gate.weight, dtype="<f4"), **scalars})


def decode_gate(data: bytes, *, width: int) -> Gate:
    """The gate in a safetensors file, for a base of this width. Raises PatchFormatError as `read_floats` does."""
    found = read_floats(data, {"weight": (width,), **dict.fromkeys(SCALARS, (1,))}, file=GATE_FILE)
    layer = float(found["layer"][0])
    if not layer.is_integer():
        raise PatchFormatError(f"{GATE_FILE} holds layer {layer:g}", expected="a whole number",
                               do="get the patch again from its vendor")
    return Gate(int(layer), found["weight"], float(found["bias"][0]))
