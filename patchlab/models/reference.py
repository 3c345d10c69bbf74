"""The reference: a model of its own, or the base with a low-rank adapter, which shares all of the base's weights."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchlab.errors import ModelError
from patchlab.models.adapter import Adapter, read_adapter
from patchlab.models.backbone import Backbone
from patchlab.models.identity import WEIGHTS
from patchlab.models.loading import load_backbone, quiet
from patchlab.models.sources import find_adapter
from patchlab.models.views import adapting


def with_adapter(base: Backbone, adapter: Adapter) -> Backbone:
    """The base with the adapter applied to every row: a backbone of its own identity that shares the base's weights.

    Its `origin` is the base, in whose batches its rows can ride. Raises ModelError for a base that has an adapter already.
    """
    if base.adapter is not None:
        raise ModelError(f"adapter {adapter.name!r} on {base.name}, which has an adapter", expected="a base without one",
                         do="merge the first adapter into its base")
    made = copy.copy(base)
    made.model, made.origin, made.adapter = adapting(base.model, adapter.layers), base, adapter
    made.name, made.scheduler, made.anchors = adapter.name, None, None
    digest = hashlib.sha256(f"{base.fingerprints[0]} {adapter.digest}".encode()).hexdigest()
    made.identity = replace(base.identity, id=adapter.name, revision="", fingerprint=WEIGHTS + digest)
    made.fingerprints = (made.identity.fingerprint,)
    return made


def load_reference(source: str | Path, base: Backbone, **options: Any) -> Backbone:
    """The reference of a folder, GGUF file or Hub id: an adapter of `base`, or a model.

    `options` are those of `load_backbone`; an adapter has the device, dtype and bits of its base.
    Raises as `read_adapter` and `load_backbone`.
    """
    with quiet():
        found = find_adapter(source)
    if found is None:
        return load_backbone(source, **options)
    folder, name = found
    return with_adapter(base, read_adapter(folder, base, name=name))
