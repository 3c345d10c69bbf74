"""Tensors in safetensors bytes: read by safetensors' own parser, after a check of the header and before checks of the values.

Works on bytes in memory, so that a digest and the tensors come from the same read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import WEIGHTS_FILE
from patchlab.validation import parse_object

TENSOR = "prompt_embeddings"
MAX_HEADER_BYTES = 65536
_FLOATS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}

Prefix = NDArray[np.float32]


def encode(prefix: Prefix) -> bytes:
    """A safetensors file whose only tensor is `prefix` [P, D] float32, under the name that PEFT expects."""
    return save({TENSOR: np.ascontiguousarray(prefix, dtype="<f4")}, metadata={"format": "pt"})


def decode(data: bytes, *, length: int, width: int) -> Prefix:
    """The prefix [P, D] in a safetensors file as read-only float32; `length` is P, `width` D. Raises as `read_floats`."""
    return read_floats(data, {TENSOR: (length, width)}, file=WEIGHTS_FILE)[TENSOR]


def read_floats(data: bytes, shapes: Mapping[str, Sequence[int]], *, file: str) -> dict[str, Prefix]:
    """The tensors of a safetensors file, which must be exactly those of `shapes`, as read-only float32.

    Raises PatchFormatError, naming `file`, for another tensor, shape, dtype or file size, for bytes that belong to no
    tensor or to two, and for NaN or infinite values.
    """
    _check_header(data, file)
    try:
        tensors: dict[str, dict[str, Any]] = dict(deserialize(data))
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing: ")[:160]
        _refuse(file, f"no readable tensors ({reason})", "one complete safetensors file")
    if tensors.keys() != shapes.keys():
        _refuse(file, f"the tensors {sorted(name[:80] for name in tensors)[:8]}", f"exactly {', '.join(shapes)}")
    arrays = {}
    for name, tensor in tensors.items():
        if tensor["dtype"] not in _FLOATS:
            _refuse(file, f"dtype {tensor['dtype']!r}", f"one of {', '.join(_FLOATS)}")
        if tensor["shape"] != [*shapes[name]]:
            _refuse(file, f"shape {str(tensor['shape'])[:80]}", f"{[*shapes[name]]}, as the manifest says")
        raw = np.frombuffer(tensor["data"], dtype=_FLOATS[tensor["dtype"]]).reshape(shapes[name])
        # a bfloat16 is the upper half of a float32
        wide = (raw.astype(np.uint32) << 16).view(np.float32) if tensor["dtype"] == "BF16" else raw.astype(np.float32)
        if not np.isfinite(wide).all():
            _refuse(file, f"{int((~np.isfinite(wide)).sum())} numbers that are NaN or infinite", "finite numbers only")
        arrays[name] = frozen_copy(wide)
    return arrays


def frozen_copy(array: Prefix) -> Prefix:
    """A contiguous, read-only copy."""
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _check_header(data: bytes, file: str) -> None:
    """Refuse what safetensors accepts: a header over 64 KiB, duplicate keys, unknown keys in a tensor's entry."""
    if len(data) < 8:
        _refuse(file, f"{len(data)} bytes", "a header and tensors")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES or 8 + size > len(data):
        _refuse(file, f"a header of {size} bytes in a file of {len(data)}", f"a header of at most {MAX_HEADER_BYTES} bytes")
    for name, entry in parse_object(data[8:8 + size], where=f"the header of {file}").items():
        if name != "__metadata__" and (not isinstance(entry, dict) or entry.keys() - {"dtype", "shape", "data_offsets"}):
            _refuse(file, f"a tensor entry {str(entry)[:80]}", "dtype, shape and data_offsets")


def _refuse(file: str, found: str, expected: str) -> NoReturn:
    raise PatchFormatError(f"{file} holds {found}", expected=expected, do="get the patch again from its vendor")
