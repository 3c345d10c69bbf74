"""Requests that are being read before they join the running batch: first unknown histories, then the current turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic

from torch import Tensor

from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.histories import Histories, History, HistoryKey
from patchlab.engine.plan import StackPlan
from patchlab.engine.written_rows import OwnerT, Request, WrittenRow
from patchlab.models import Backbone


class Joining(Generic[OwnerT]):
    """Rows that were admitted together.

    Each history is read once, by the bare base or with the row's adapter, as far as `histories` do not know it.
    """

    def __init__(self, backbone: Backbone, histories: Histories, rows: Sequence[WrittenRow[OwnerT]]) -> None:
        self.rows = list(rows)
        self.count = sum(len(row.request.plan.rows) for row in rows)  # forward rows
        self._batches = _reads(backbone, histories, [row.request for row in rows])
        self.batch = next(self._batches)  # the one that is being read, at last that of the rows

    def read(self, columns: int) -> Tensor | None:
        """Read at most `columns` more tokens a row; the logits after the prompts once all are read, None before."""
        logits = self.batch.read(columns)
        if self.batch.unread:
            return None
        following = next(self._batches, None)
        if following is None:
            return logits
        self.batch = following
        return None


def _reads(backbone: Backbone, histories: Histories, requests: Sequence[Request]) -> Iterator[Batch]:
    """The batches to read, one after another, each made when the one before is complete."""
    found: dict[HistoryKey, History] = {}
    for adapter, ids in dict.fromkeys(request.history for request in requests if request.turn):
        known = histories.longest(ids, adapter)
        if known is None or len(known) < len(ids):
            batch = Batch(backbone, [BatchRow(ids[len(known or ()):], StackPlan.adapted(adapter), known)], room=0)
            yield batch
            known = histories.grown(batch.history(), known)
            del batch
        found[adapter, ids] = known
    yield Batch(backbone, [_row(request, found.get(request.history)) for request in requests],
                room=max(request.sampling.max_new_tokens for request in requests))


def _row(request: Request, history: History | None) -> BatchRow:
    return BatchRow(request.ids[request.turn:], request.plan, history, request.frame)
