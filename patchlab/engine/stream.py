"""Streams any number of lanes over any number of prompts: one step of every lane at a time.

Lanes that share a backbone share a batch; lanes of other backbones run their own, interleaved step by step. The stream is
a generator: closing it frees its keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from patchlab.engine.backbone import Backbone
from patchlab.engine.batch import Batch, Row
from patchlab.engine.sampling import RowKey, Sampling, choose
from patchlab.engine.voices import Parts, start_of
from patchlab.errors import ContextError, InputError
from patchlab.records import Delta, Prompt, Reply, Stop


@dataclass(frozen=True, slots=True)
class Lane:
    """One column: a name, the backbone that answers, and the parts of its bank that are on."""

    name: str
    backbone: Backbone
    parts: Parts = ()


class _Text:
    """One row's tokens as text, given out only once it can no longer change."""

    def __init__(self, backbone: Backbone, before: Sequence[int]) -> None:
        self.tokenizer = backbone.tokenizer
        # the prompt's last tokens are decoded along, so that a first word keeps the space in front of it; more than two
        # where these begin inside a character, which would spoil the bytes that follow
        self.tokens = next((tail for tail in (list(before[-n:]) for n in (2, 3, 4, 5)) if "�" not in self._decode(tail)),
                           list(before[-2:]))
        self.start, self.read = 0, len(self.tokens)
        self.count = 0

    def add(self, token: int) -> str:
        """The text that is certain after one more token."""
        self.tokens.append(token)
        self.count += 1
        return self._flush(hold=True)

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._flush(hold=False)

    def _flush(self, *, hold: bool) -> str:
        before = self._decode(self.tokens[self.start:self.read])
        now = self._decode(self.tokens[self.start:])
        # in the middle of a character; or at a mark that is not shown, before which the window must not start
        if (hold and now.endswith("�")) or len(now) == len(before):
            return ""
        self.start, self.read = self.read, len(self.tokens)
        return now[len(before):]

    def _decode(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@dataclass(slots=True)
class _Slot:
    """A row in flight: where it belongs and what noise it draws."""

    lane: str
    row: int
    key: RowKey
    text: _Text


class _Group:
    """The lanes of one backbone as one batch."""

    def __init__(self, backbone: Backbone, lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int,
                 sampling: Sampling) -> None:
        self.sampling = sampling
        self.stops = backbone.stops
        encoded = [backbone.encode(prompt) for prompt in prompts]
        rows: list[Row] = []
        self.slots: list[_Slot] = []
        for lane in lanes:
            for p, ids in enumerate(encoded):
                _check_context(lane, prompts[p], ids, sampling)
                for sample in range(samples):
                    key = RowKey.of(prompts[p], sample=sample, seed=sampling.seed)
                    rows.append(Row(ids, lane.parts))
                    self.slots.append(_Slot(lane.name, p * samples + sample, key, _Text(backbone, ids)))
        self.batch: Batch | None = Batch(backbone, rows, room=sampling.max_new_tokens)
        self.tokens: list[int] = []
        self.taken = 0

    def advance(self) -> list[Delta]:
        """One step of every row still running."""
        if self.batch is None:
            return []
        logits = self.batch.step(self.tokens) if self.taken else self.batch.prefill()
        chosen = choose(logits, [slot.key for slot in self.slots], step=self.taken, sampling=self.sampling)
        self.taken += 1
        deltas = [self._delta(slot, token) for slot, token in zip(self.slots, chosen, strict=True)]
        going = [k for k, delta in enumerate(deltas) if not delta.done]
        self.tokens = [chosen[k] for k in going]
        self.slots = [self.slots[k] for k in going]
        if not going:
            self.close()
        elif len(going) < len(deltas):
            self.batch.keep(going)
        return deltas

    def _delta(self, slot: _Slot, token: int) -> Delta:
        stop: Stop | None = None
        if token in self.stops:
            stop, text = "end", slot.text.rest()
        else:
            text = slot.text.add(token)
            if self.taken >= self.sampling.max_new_tokens:
                stop, text = "length", text + slot.text.rest()
        return Delta(slot.lane, slot.row, text, slot.text.count, done=stop is not None, stop=stop)

    def close(self) -> None:
        """Let go of keys and values."""
        self.batch = None


def _check_context(lane: Lane, prompt: Prompt, ids: Sequence[int], sampling: Sampling) -> None:
    start = start_of(lane.parts)
    needed = start + len(ids) + sampling.max_new_tokens
    if needed > lane.backbone.context:
        raise ContextError(
            f"{needed:,} tokens needed by lane {lane.name!r} ({len(ids):,} for the prompt's {len(prompt.text):,} characters, "
            f"{sampling.max_new_tokens:,} for the reply, {start} for the patch)",
            expected=f"at most {lane.backbone.context:,} available", do="shorten the prompt or ask for a shorter reply")


def stream(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1,
           sampling: Sampling | None = None) -> Iterator[tuple[Delta, ...]]:
    """Yield one tuple of deltas a step until every row has stopped; row = prompt index * samples + sample.

    Raises InputError or ContextError before the first step, so that nothing is half answered.
    """
    sampling = sampling or Sampling()
    if not (lanes and prompts and samples >= 1):
        raise InputError(f"{len(lanes)} lanes, {len(prompts)} prompts and {samples} samples", expected="one or more of each",
                         do="ask for something")
    by_backbone: dict[int, list[Lane]] = {}
    for lane in lanes:
        by_backbone.setdefault(id(lane.backbone), []).append(lane)
    groups = [_Group(each[0].backbone, each, prompts, samples, sampling) for each in by_backbone.values()]
    return _steps(groups, [lane.name for lane in lanes])


def _steps(groups: list[_Group], order: list[str]) -> Iterator[tuple[Delta, ...]]:
    place = {name: k for k, name in enumerate(order)}
    try:
        while any(group.batch is not None for group in groups):
            deltas = [delta for group in groups for delta in group.advance()]
            yield tuple(sorted(deltas, key=lambda delta: (place[delta.lane], delta.row)))
    finally:
        for group in groups:
            group.close()


def finished(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1, sampling: Sampling | None = None,
             rows: int = 96) -> Iterator[Reply]:
    """Drain streams over `prompts`, at most about `rows` rows a batch; yields each reply as soon as its row has stopped."""
    chunk = max(1, rows // (samples * max(1, len(lanes))))
    for first in range(0, len(prompts), chunk):
        some = prompts[first:first + chunk]
        texts: dict[tuple[str, int], list[str]] = {}
        for step in stream(lanes, some, samples=samples, sampling=sampling):
            for delta in step:
                text = texts.setdefault((delta.lane, delta.row), [])
                text.append(delta.text)
                if delta.done:
                    yield Reply(delta.lane, first * samples + delta.row, some[delta.row // samples], delta.row % samples,
                                "".join(text).strip(), delta.tokens, delta.stop or "end")


def replies(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1, sampling: Sampling | None = None,
            rows: int = 96) -> Iterator[list[Reply]]:
    """The replies of `finished`, a chunk of prompts at a time, by lane and row."""
    place = {lane.name: k for k, lane in enumerate(lanes)}
    chunk = max(1, rows // (samples * max(1, len(lanes))))
    for first in range(0, len(prompts), chunk):
        some = finished(lanes, prompts[first:first + chunk], samples=samples, sampling=sampling, rows=rows)
        found = [replace(reply, row=first * samples + reply.row) for reply in some]
        yield sorted(found, key=lambda reply: (place[reply.lane], reply.row))
