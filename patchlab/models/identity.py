"""The identity of a base: fingerprints of weights, digests of tokenizer and chat template, and their comparison.

They detect a wrong model, not a forged one: a fingerprint samples the weights, so two models can be made to share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from patchlab.patches import BaseIdentity

SAMPLED = 256  # values per tensor that a fingerprint reads
WEIGHTS, TEMPLATE = "w2:", "t2:"  # prefixes of version 2; version 1 is bare hex


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """A sha256 over the shape and 256 evenly spaced values, rounded to bfloat16, of each distinct tensor.

    It does not depend on the dtype a model is loaded in, on names or order of parameters, or on tied weights being stored
    once or twice.
    """
    digests = {hashlib.sha256(f"{tuple(tensor.shape)}".encode() + _sample(tensor)).hexdigest() for tensor in tensors}
    return WEIGHTS + hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def legacy_fingerprint(state: Mapping[str, Tensor]) -> str:
    """The fingerprint of version 1, stored in older patches; it also depends on the names of parameters and buffers."""
    total = hashlib.sha256()
    seen: set[int] = set()
    for name, tensor in sorted(state.items()):
        if tensor.data_ptr() in seen:  # tied weights
            continue
        seen.add(tensor.data_ptr())
        total.update(f"{name}{tuple(tensor.shape)}".encode() + _sample(tensor))
    return total.hexdigest()


def digest(value: Any) -> str:
    """The sha256 of a value written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def template_digest(rendered: Any) -> str:
    """The digest of a chat template by its rendering of a fixed conversation; empty without a template."""
    return TEMPLATE + digest(rendered) if rendered else ""


def mismatch(identity: BaseIdentity, own: BaseIdentity, fingerprints: tuple[str, ...]) -> tuple[str, str, str] | None:
    """The first difference between a patch's base and this one as (words, theirs, ours): weights, then tokenizer; else None."""
    if identity.fingerprint not in fingerprints:
        # shown in the fingerprint version of the patch, so that a reader can compare the two
        ours = fingerprints[0] if identity.fingerprint.startswith(WEIGHTS) else fingerprints[-1]
        return "other weights", identity.fingerprint, ours
    if identity.tokenizer_digest != own.tokenizer_digest:
        return "another tokenizer", identity.tokenizer_digest, own.tokenizer_digest
    return None


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // SAMPLED)
    return flat[::step][:SAMPLED].to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()
