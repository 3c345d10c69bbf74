"""Low-rank adapters in a batch: the rows of a reference that is the base with an adapter, beside rows of the base itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchlab.engine.forward_rows import ForwardRow
from patchlab.models import Backbone
from patchlab.models.views import adapting


def adapted(backbone: Backbone, rows: Sequence[ForwardRow]) -> Any:
    """The backbone's model with each row's adapter applied to that row only; the model itself if no row has one.

    A backbone that is itself the base with an adapter applies it to every row.
    """
    model: Any = backbone.model
    places: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        if row.adapter not in (None, backbone.adapter):
            places.setdefault(row.adapter, []).append(place)
    for adapter, some in places.items():
        model = adapting(model, adapter.layers, some, size=0 if len(some) == len(rows) else len(rows))
    return model
