"""Rows in flight on one backbone: requests join, each gains a token a step, and leave when they are done.

Newcomers read their prompts in a batch of their own and are then laid beside the rows that run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from patchlab.engine.decode import Batch, Row
from patchlab.engine.detokenize import Text
from patchlab.engine.forward_rows import start_of
from patchlab.engine.gates import Wanted, resolved, whole
from patchlab.engine.sampler import BROKEN, RowKey, Sampling, choose
from patchlab.errors import ContextError
from patchlab.models.backbone import Backbone
from patchlab.records import Delta, Prompt, Stop

FAILED = "the model's numbers overflowed (its logits are not finite)"


@dataclass(frozen=True, slots=True)
class Request:
    """One row that is asked for: where its deltas belong, what it reads, and how it is drawn."""

    lane: str
    row: int
    ids: Sequence[int]
    asked: Wanted
    key: RowKey
    sampling: Sampling


class _Row:
    """A request on its way."""

    def __init__(self, backbone: Backbone, request: Request) -> None:
        self.request, self.stops = request, backbone.stops
        self.text = Text(backbone, request.ids)
        self.taken, self.token = 0, 0

    def take(self, token: int) -> Delta:
        """What one more token adds; one drawn from numbers that are none ends the row and no other."""
        self.taken, self.token = self.taken + 1, token
        if token == BROKEN:
            return self.end("error", error=FAILED)
        if token in self.stops:
            return self.end("end")
        piece = self.text.add(token)
        return self.end("length", piece) if self.taken >= self.request.sampling.max_new_tokens else self._delta(piece)

    def end(self, stop: Stop, piece: str = "", *, error: str = "") -> Delta:
        """The row's last delta."""
        return self._delta(piece + self.text.rest(), stop, error)

    def _delta(self, piece: str, stop: Stop | None = None, error: str = "") -> Delta:
        r = self.request
        return Delta(r.lane, r.row, piece, self.text.count, done=stop is not None, stop=stop, error=error)


class Running:
    """The rows in flight. Nothing is held before the first joins nor after the last has left."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.batch: Batch | None = None
        self.rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def voices(self) -> int:
        """The forward rows that the rows in flight take."""
        return len(self.batch.voices) if self.batch else 0

    def join(self, requests: Sequence[Request]) -> list[Delta]:
        """Read the prompts of new rows and let them run beside the others; returns their first deltas.

        Where gates are asked for, they decide here, over all newcomers at once.
        """
        if not requests:
            return []
        parts = resolved(self.backbone, [(each.ids, each.asked) for each in requests])
        batch = Batch(self.backbone, [Row(each.ids, own) for each, own in zip(requests, parts, strict=True)],
                      room=max(each.sampling.max_new_tokens for each in requests))
        rows = [_Row(self.backbone, each) for each in requests]
        deltas = _draw(batch.prefill(), rows)
        going = [k for k, delta in enumerate(deltas) if not delta.done]
        if 0 < len(going) < len(rows):
            batch.keep(going)
        if going and self.batch:
            self.batch.join(batch)
        elif going:
            self.batch = batch
        self.rows += [rows[k] for k in going]
        return deltas

    def advance(self) -> list[Delta]:
        """One more token of every row."""
        if self.batch is None:
            return []
        deltas = _draw(self.batch.step([row.token for row in self.rows]), self.rows)
        self._keep([k for k, delta in enumerate(deltas) if not delta.done])
        return deltas

    def cancel(self, row: int) -> Delta | None:
        """Let a row go; None where none of this number runs."""
        at = next((k for k, each in enumerate(self.rows) if each.request.row == row), None)
        if at is None:
            return None
        delta = self.rows[at].end("cancelled")
        self._keep([k for k in range(len(self.rows)) if k != at])
        return delta

    def close(self) -> None:
        """Let go of all rows, with their keys and values."""
        self.batch, self.rows = None, []

    def _keep(self, going: Sequence[int]) -> None:
        if self.batch is None or not going:
            self.close()
        elif len(going) < len(self.rows):
            self.batch.keep(going)
            self.rows = [self.rows[k] for k in going]


def _draw(logits: Tensor, rows: Sequence[_Row]) -> list[Delta]:
    """Give each row its next token: those drawn alike together, each at its own step."""
    alike: dict[tuple[float, float], list[int]] = {}
    for k, row in enumerate(rows):
        alike.setdefault((row.request.sampling.temperature, row.request.sampling.top_p), []).append(k)
    tokens = [0] * len(rows)
    for places in alike.values():
        some = [rows[k] for k in places]
        chosen = choose(logits if len(some) == len(rows) else logits[places], [row.request.key for row in some],
                        step=[row.taken for row in some], sampling=some[0].request.sampling)
        for k, token in zip(places, chosen, strict=True):
            tokens[k] = token
    return [row.take(token) for row, token in zip(rows, tokens, strict=True)]


def check_context(backbone: Backbone, lane: str, asked: Wanted, prompt: Prompt, ids: Sequence[int], longest: int) -> None:
    """Raise ContextError where prompt, patches and a reply of `longest` tokens do not fit the model."""
    start = start_of(whole(asked))
    needed = start + len(ids) + longest
    if needed > backbone.context:
        raise ContextError(
            f"{needed:,} tokens needed by lane {lane!r} ({len(ids):,} for the prompt's {len(prompt.text):,} characters, "
            f"{longest:,} for the reply, {start} for the patch)",
            expected=f"at most {backbone.context:,} available", do="shorten the prompt or ask for a shorter reply")
