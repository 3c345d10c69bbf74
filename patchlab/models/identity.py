"""Which base this is: fingerprints of weights, digests of tokenizer and chat template, and whether a patch's base is this one.

They tell models apart by accident or mix-up; they are no proof against someone who wants two models to look the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from patchlab.patches import BaseIdentity

SAMPLED = 256  # values of each tensor that a fingerprint reads
WEIGHTS, TEMPLATE = "w2:", "t2:"  # what version 2 begins with; version 1 is bare hex


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """The identity of a set of weights: of each distinct tensor its shape and an even sample of values rounded to bf16.

    Independent of the dtype a model is loaded in, of the names and the order of its parameters, and of whether weights
    are tied or stored twice.
    """
    found = {hashlib.sha256(f"{tuple(tensor.shape)}".encode() + _sample(tensor)).hexdigest() for tensor in tensors}
    return WEIGHTS + hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def legacy_fingerprint(state: Mapping[str, Tensor]) -> str:
    """The identity that patches made before version 2 hold: it also depends on the names of parameters and buffers."""
    whole = hashlib.sha256()
    seen: set[int] = set()
    for name, tensor in sorted(state.items()):
        if tensor.data_ptr() in seen:  # tied weights count once
            continue
        seen.add(tensor.data_ptr())
        whole.update(f"{name}{tuple(tensor.shape)}".encode() + _sample(tensor))
    return whole.hexdigest()


def digest(value: Any) -> str:
    """The sha256 of a value written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def template_digest(rendered: Any) -> str:
    """The identity of a chat template by what it writes for a fixed conversation; empty where there is no template."""
    return TEMPLATE + digest(rendered) if rendered else ""


def mismatch(identity: BaseIdentity, own: BaseIdentity, fingerprints: tuple[str, ...]) -> tuple[str, str, str] | None:
    """What of a patch's base is not so here (in words, theirs, ours), or None: weights first, then the tokenizer."""
    if identity.fingerprint not in fingerprints:
        # two versions of a fingerprint cannot be compared by eye: show ours in the patch's version
        ours = fingerprints[0] if identity.fingerprint.startswith(WEIGHTS) else fingerprints[-1]
        return "other weights", identity.fingerprint, ours
    if identity.tokenizer_digest != own.tokenizer_digest:
        return "another tokenizer", identity.tokenizer_digest, own.tokenizer_digest
    return None


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // SAMPLED)
    return flat[::step][:SAMPLED].to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()
