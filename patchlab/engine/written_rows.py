"""Rows in decoding: each new token is converted to text and checked for the end of the reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from patchlab.engine.detokenize import StopStrings, StreamedText
from patchlab.engine.histories import HistoryKey
from patchlab.engine.plan import StackPlan
from patchlab.engine.sampler import BROKEN, RowKey, Sampling, choose
from patchlab.models import Backbone
from patchlab.records import Delta, Stop

FAILED = "the model's logits are not finite"


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one reply: lane and row of its deltas, prompt ids, plan, noise key and sampling.

    In a conversation the current turn begins at token `turn`, after its history, and the first `frame` tokens are no exchange.
    """

    lane: str
    row: int
    ids: tuple[int, ...]
    plan: StackPlan
    key: RowKey
    sampling: Sampling
    frame: int = 0
    turn: int = 0

    @property
    def history(self) -> HistoryKey:
        """The conversation's earlier turns."""
        return self.plan.adapter, self.ids[:self.turn]


class Owner(Protocol):
    """The job of a row, which may be closed or cancel rows."""

    closed: bool
    cancelled: set[int]


OwnerT = TypeVar("OwnerT", bound=Owner)


class WrittenRow(Generic[OwnerT]):
    """A running request: its text so far and its last token."""

    def __init__(self, backbone: Backbone, request: Request, owner: OwnerT) -> None:
        self.request, self.owner, self.ends = request, owner, backbone.stops
        self.text = StreamedText(backbone, request.ids)
        self.until = StopStrings(request.sampling.until) if request.sampling.until else None
        self.taken, self.token = 0, 0

    @property
    def unwanted(self) -> bool:
        """Whether the client has closed the job or cancelled this row."""
        return self.owner.closed or self.request.row in self.owner.cancelled

    def take(self, token: int) -> Delta:
        """The delta of one more token. BROKEN ends this row with an error."""
        self.taken, self.token = self.taken + 1, token
        if token == BROKEN:
            return self.end("error", error=FAILED)
        if token in self.ends:
            return self.end("end")
        piece = self.text.add(token)
        if self.until is not None:
            piece = self.until.add(piece)
            if self.until.found:
                return self._delta(piece, "end")
        return self.end("length", piece) if self.taken >= self.request.sampling.max_new_tokens else self._delta(piece)

    def end(self, stop: Stop, piece: str = "", *, error: str = "") -> Delta:
        """The row's last delta."""
        rest = self.text.rest()
        if self.until is not None:
            rest = self.until.add(rest)
            rest, stop = (rest, "end") if self.until.found else (rest + self.until.rest(), stop)
        return self._delta(piece + rest, stop, error)

    def _delta(self, piece: str, stop: Stop | None = None, error: str = "") -> Delta:
        return Delta(self.request.lane, self.request.row, piece, self.text.count, done=stop is not None, stop=stop, error=error)


def draw(logits: Tensor, rows: Sequence[WrittenRow[OwnerT]]) -> list[Delta]:
    """Sample the next token of each row from logits [B, V]; rows with equal temperature and top_p are sampled together."""
    alike: dict[tuple[float, float], list[int]] = {}
    for k, row in enumerate(rows):
        alike.setdefault((row.request.sampling.temperature, row.request.sampling.top_p), []).append(k)
    tokens = [0] * len(rows)
    for places in alike.values():
        group = [rows[k] for k in places]
        chosen = choose(logits if len(group) == len(rows) else logits[places], [row.request.key for row in group],
                        step=[row.taken for row in group], sampling=group[0].request.sampling)
        for k, token in zip(places, chosen, strict=True):
            tokens[k] = token
    return [row.take(token) for row, token in zip(rows, tokens, strict=True)]
