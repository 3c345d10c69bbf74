"""Streams any number of lanes over any number of prompts: one step of every lane at a time.

Lanes that share a backbone share a batch; lanes of other backbones run their own, interleaved step by step. The stream is
a generator: closing it frees its keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from patchlab.engine.gates import Wanted
from patchlab.engine.sampler import RowKey, Sampling
from patchlab.engine.scheduler import Request, Running, check_context
from patchlab.errors import InputError, ModelError
from patchlab.models.backbone import Backbone
from patchlab.records import Delta, Prompt, Reply


@dataclass(frozen=True, slots=True)
class Lane:
    """One column: a name, the backbone that answers, and the parts of its bank that are on, or gates that decide it."""

    name: str
    backbone: Backbone
    parts: Wanted = ()


def stream(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1,
           sampling: Sampling | None = None) -> Iterator[tuple[Delta, ...]]:
    """Yield one tuple of deltas a step until every row has stopped; row = prompt index * samples + sample.

    Raises InputError or ContextError before the first step, so that nothing is half answered. A row whose logits are not
    finite stops with "error", and the others go on.
    """
    sampling = sampling or Sampling()
    if not (lanes and prompts and samples >= 1):
        raise InputError(f"{len(lanes)} lanes, {len(prompts)} prompts and {samples} samples", expected="one or more of each",
                         do="ask for something")
    by_backbone: dict[int, list[Lane]] = {}
    for lane in lanes:
        by_backbone.setdefault(id(lane.backbone), []).append(lane)
    groups = [(Running(each[0].backbone), _requests(each, prompts, samples, sampling)) for each in by_backbone.values()]
    return _steps(groups, [lane.name for lane in lanes])


def _requests(lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int, sampling: Sampling) -> list[Request]:
    """The rows of lanes of one backbone."""
    backbone, found = lanes[0].backbone, []
    encoded = [backbone.encode(prompt) for prompt in prompts]
    for lane in lanes:
        for p, ids in enumerate(encoded):
            check_context(backbone, lane.name, lane.parts, prompts[p], ids, sampling.max_new_tokens)
            for sample in range(samples):
                key = RowKey.of(prompts[p], sample=sample, seed=sampling.seed)
                found.append(Request(lane.name, p * samples + sample, ids, lane.parts, key, sampling))
    return found


def _steps(groups: list[tuple[Running, list[Request]]], order: list[str]) -> Iterator[tuple[Delta, ...]]:
    place = {name: k for k, name in enumerate(order)}

    def in_order(deltas: list[Delta]) -> tuple[Delta, ...]:
        return tuple(sorted(deltas, key=lambda delta: (place[delta.lane], delta.row)))

    try:
        yield in_order([delta for running, requests in groups for delta in running.join(requests)])
        while any(running for running, _ in groups):
            yield in_order([delta for running, _ in groups for delta in running.advance()])
    finally:
        for running, _ in groups:
            running.close()


def finished(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1, sampling: Sampling | None = None,
             rows: int = 96) -> Iterator[Reply]:
    """Drain streams over `prompts`, at most about `rows` rows a batch; yields each reply as soon as its row has stopped.

    Raises ModelError where a row fails: who asks for whole replies must not take a broken one for an answer.
    """
    chunk = max(1, rows // max(1, samples * len(lanes)))
    for first in range(0, len(prompts), chunk):
        some = prompts[first:first + chunk]
        texts: dict[tuple[str, int], list[str]] = {}
        for step in stream(lanes, some, samples=samples, sampling=sampling):
            for delta in step:
                text = texts.setdefault((delta.lane, delta.row), [])
                text.append(delta.text)
                if delta.stop == "error":
                    raise ModelError(f"lane {delta.lane!r} failed: {delta.error}", expected="numbers",
                                     do="load the model in another precision, or switch its patches off")
                if delta.done:
                    yield Reply(delta.lane, first * samples + delta.row, some[delta.row // samples], delta.row % samples,
                                "".join(text).strip(), delta.tokens, delta.stop or "end")


def replies(lanes: Sequence[Lane], prompts: Sequence[Prompt], *, samples: int = 1, sampling: Sampling | None = None,
            rows: int = 96) -> Iterator[list[Reply]]:
    """The replies of `finished`, a chunk of prompts at a time, by lane and row."""
    place = {lane.name: k for k, lane in enumerate(lanes)}
    chunk = max(1, rows // max(1, samples * len(lanes)))
    for first in range(0, len(prompts), chunk):
        some = finished(lanes, prompts[first:first + chunk], samples=samples, sampling=sampling, rows=rows)
        found = [replace(reply, row=first * samples + reply.row) for reply in some]
        yield sorted(found, key=lambda reply: (place[reply.lane], reply.row))
