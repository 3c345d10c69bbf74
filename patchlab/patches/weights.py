"""Tensors as safetensors bytes, there and back. The header is checked here, before any number is looked at.

Reading is done by hand on bytes already in memory: the digest and the tensor then come from the same read,
duplicate keys in the header are seen, and bfloat16, which numpy lacks, can be widened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import WEIGHTS_FILE
from patchlab.patches.strict_json import parse_object

TENSOR = "prompt_embeddings"
MAX_HEADER_BYTES = 65536
_FLOATS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}

Prefix = NDArray[np.float32]


def encode(prefix: Prefix) -> bytes:
    """A safetensors file with `prefix` [P, D] float32 as its one tensor, under the name PEFT looks for."""
    return save({TENSOR: np.ascontiguousarray(prefix, dtype="<f4")}, metadata={"format": "pt"})


def decode(data: bytes, *, length: int, width: int) -> Prefix:
    """The prefix in a safetensors file, widened to float32 [P, D], read-only.

    `length` P and `width` D are the manifest's. Raises PatchFormatError for any other tensor, shape, dtype or
    size, and for numbers that are not finite.
    """
    return read_floats(data, {TENSOR: (length, width)}, file=WEIGHTS_FILE)[TENSOR]


def read_floats(data: bytes, shapes: Mapping[str, Sequence[int]], *, file: str) -> dict[str, Prefix]:
    """The tensors of a safetensors file, which must be exactly those named in `shapes`, widened to float32 and read-only.

    Raises PatchFormatError, which names `file`, for any other tensor, shape, dtype or size, for bytes that belong to no
    tensor or to two, and for numbers that are not finite.
    """
    header, body = _split(data, file)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(file, "metadata that is not text", "text in __metadata__")
    if header.keys() != shapes.keys() or not all(isinstance(entry, dict) for entry in header.values()):
        _refuse(file, f"the tensors {sorted(name[:80] for name in header)[:8]}",
                f"the one tensor {TENSOR!r}" if [*shapes] == [TENSOR] else f"the tensors {', '.join(shapes)}")
    found, at = {}, 0
    for name in sorted(header, key=lambda name: _begin(header[name])):  # one behind the other, without gap or overlap
        dtype = _check_entry(header[name], list(shapes[name]), file)
        size = math.prod(shapes[name]) * dtype.itemsize
        if not _whole_numbers(header[name]["data_offsets"], [at, at + size]) or at + size > len(body):
            _refuse(file, f"{len(body)} bytes at offsets {str(header[name]['data_offsets'])[:80]}",
                    f"{size} bytes at [{at}, {at + size}]")
        raw = np.frombuffer(body[at:at + size], dtype=dtype).reshape(shapes[name])
        found[name], at = _widen(raw, header[name]["dtype"] == "BF16", file), at + size
    if at != len(body):
        _refuse(file, f"{len(body)} bytes of tensors", f"{at} bytes")
    return found


def _begin(entry: dict[str, Any]) -> int:
    """Where an entry says that its bytes begin; checked later."""
    offsets = entry.get("data_offsets")
    return offsets[0] if isinstance(offsets, list) and offsets and type(offsets[0]) is int else -1


def _check_entry(entry: dict[str, Any], shape: list[int], file: str) -> np.dtype[Any]:
    """The dtype of a tensor whose entry in the header is as it should be, its offsets aside."""
    if entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(file, f"a tensor entry with {sorted(key[:80] for key in entry)[:8]}",
                "dtype, shape and data_offsets")
    dtype = _FLOATS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        _refuse(file, f"dtype {str(entry['dtype'])[:40]!r}", f"one of {', '.join(_FLOATS)}")
    if not _whole_numbers(entry["shape"], shape):
        _refuse(file, f"shape {str(entry['shape'])[:80]}", f"{shape}, as the manifest says")
    return dtype


def _split(data: bytes, file: str) -> tuple[dict[str, Any], memoryview]:
    if len(data) < 8:
        _refuse(file, f"{len(data)} bytes", "a header and tensors")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES or 8 + size > len(data):
        _refuse(file, f"a header of {size} bytes in a file of {len(data)}",
                f"a whole header of at most {MAX_HEADER_BYTES} bytes")
    return parse_object(data[8:8 + size], where=f"the header of {file}"), memoryview(data)[8 + size:]


def _widen(raw: NDArray[Any], bfloat: bool, file: str) -> Prefix:
    # A bfloat16 is the upper half of a float32.
    wide: Prefix = (raw.astype(np.uint32) << 16).view(np.float32) if bfloat else raw.astype(np.float32)
    if not np.isfinite(wide).all():
        _refuse(file, f"{int((~np.isfinite(wide)).sum())} numbers that are NaN or infinite", "finite numbers only")
    wide.flags.writeable = False
    return wide


def _whole_numbers(value: object, wanted: list[int]) -> bool:
    # True and 1.0 equal 1 in Python, so the types are compared too.
    return isinstance(value, list) and value == wanted and all(type(item) is int for item in value)


def _refuse(file: str, found: str, expected: str) -> NoReturn:
    raise PatchFormatError(f"{file} holds {found}", expected=expected, do="get the patch again from its vendor")
