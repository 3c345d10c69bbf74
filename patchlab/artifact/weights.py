"""A prefix as safetensors bytes, there and back. The header is checked here, before any number is looked at.

Reading is done by hand on bytes already in memory: the digest and the tensor then come from the same read,
duplicate keys in the header are seen, and bfloat16, which numpy lacks, can be widened.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from patchlab.artifact.manifest import WEIGHTS_FILE
from patchlab.artifact.strictjson import parse_object
from patchlab.errors import PatchFormatError

TENSOR = "prompt_embeddings"
MAX_HEADER_BYTES = 65536
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}

Prefix = NDArray[np.float32]


def encode(prefix: Prefix) -> bytes:
    """A safetensors file with `prefix` [P, D] float32 as its one tensor, under the name PEFT looks for."""
    return save({TENSOR: np.ascontiguousarray(prefix, dtype="<f4")}, metadata={"format": "pt"})


def decode(data: bytes, *, length: int, width: int) -> Prefix:
    """The prefix in a safetensors file, widened to float32 [P, D], read-only.

    `length` P and `width` D are the manifest's. Raises PatchFormatError for any other tensor, shape, dtype or
    size, and for numbers that are not finite.
    """
    header, body = _split(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse("metadata that is not text", "text in __metadata__")
    if list(header) != [TENSOR] or not isinstance(header[TENSOR], dict):
        _refuse(f"the tensors {sorted(name[:80] for name in header)[:8]}", f"the one tensor {TENSOR!r}")
    entry: dict[str, Any] = header[TENSOR]
    if entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(f"a tensor entry with {sorted(key[:80] for key in entry)[:8]}",
                "dtype, shape and data_offsets")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        _refuse(f"dtype {str(entry['dtype'])[:40]!r}", f"one of {', '.join(_DTYPES)}")
    if not _whole_numbers(entry["shape"], [length, width]):
        _refuse(f"shape {str(entry['shape'])[:80]}", f"[P, D] = [{length}, {width}] (manifest)")
    size = length * width * dtype.itemsize
    if not _whole_numbers(entry["data_offsets"], [0, size]) or len(body) != size:
        _refuse(f"{len(body)} bytes at offsets {str(entry['data_offsets'])[:80]}",
                f"{size} bytes at [0, {size}]")
    return _widen(np.frombuffer(body, dtype=dtype).reshape(length, width), bfloat=entry["dtype"] == "BF16")


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(data) < 8:
        _refuse(f"{len(data)} bytes", "a header and a tensor")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES or 8 + size > len(data):
        _refuse(f"a header of {size} bytes in a file of {len(data)}",
                f"a whole header of at most {MAX_HEADER_BYTES} bytes")
    return parse_object(data[8:8 + size], where=f"the header of {WEIGHTS_FILE}"), memoryview(data)[8 + size:]


def _widen(raw: NDArray[Any], *, bfloat: bool) -> Prefix:
    # A bfloat16 is the upper half of a float32.
    wide: Prefix = (raw.astype(np.uint32) << 16).view(np.float32) if bfloat else raw.astype(np.float32)
    if not np.isfinite(wide).all():
        _refuse(f"{int((~np.isfinite(wide)).sum())} numbers that are NaN or infinite", "finite numbers only")
    wide.flags.writeable = False
    return wide


def _whole_numbers(value: object, wanted: list[int]) -> bool:
    # True and 1.0 equal 1 in Python, so the types are compared too.
    return isinstance(value, list) and value == wanted and all(type(item) is int for item in value)


def _refuse(found: str, expected: str) -> NoReturn:
    raise PatchFormatError(f"{WEIGHTS_FILE} holds {found}", expected=expected,
                           do="get the patch again from its vendor")
