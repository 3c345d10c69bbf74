"""Threads that share a lab get what each would get alone, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from made_models import in_doubles, make_backbone, make_patch, put
from torch import Tensor

from patchlab.engine import Lab, Sampling, plan
from patchlab.engine.gates import score, states
from patchlab.models import Backbone
from patchlab.patches import Gate, Stack
from patchlab.records import Prompt
from patchlab.registry import Registry

STACKS = [Stack.parse("calm,kind"), Stack.parse("calm,kind:0.5", mode="sequential"), Stack.parse("kind,plain", mode="blend"),
          Stack.parse("plain"), Stack.parse("calm,kind,plain", gates=True), Stack.parse("calm,plain", mode="blend", gates=True),
          Stack.parse("kind,calm,plain", mode="sequential", gates=True), Stack()]
PROMPTS = [Prompt(f"{words} {number}") for number in range(7) for words in ("why is", "tell me of", "no")]
CALLS = 40
Said = list[tuple[str, int, str, str, int]]
Scores = set[tuple[str, bytes, float]]


class Call(NamedTuple):
    """What one client asks: 5 prompts, 5 samples of each, with one stack."""

    stack: Stack
    prompts: list[Prompt]
    sampling: Sampling

    def answered(self, lab: Lab) -> tuple[Said, list[tuple[str, ...]]]:
        """The replies, and what gates skip for each prompt."""
        found = lab.replies(self.prompts, stack=self.stack, lanes=["patched"], samples=5, sampling=self.sampling)
        return ([(reply.lane, reply.row, reply.text, reply.stop, reply.tokens) for reply in found],
                [one.skipped for one in lab.planner.plans(self.stack, self.prompts)])


ASKED = [Call(STACKS[k % len(STACKS)], [PROMPTS[(3 * k + step) % len(PROMPTS)] for step in range(5)],
              Sampling(temperature=[1.0, 0.7][k % 2], max_new_tokens=2 + k % 4, seed=k % 3)) for k in range(CALLS)]


def dividing(backbone: Backbone, layer: int) -> Gate:
    """A gate that skips two prompts of three."""
    weight = np.random.default_rng(layer).standard_normal(backbone.width).astype(np.float32)
    read = states(backbone, [backbone.encode(prompt) for prompt in PROMPTS], [layer])[:, 0]
    return Gate(layer, weight, -float(np.quantile([score(Gate(layer, weight, 0.0), state) for state in read], 0.66)))


@pytest.fixture(scope="module")
def base() -> Backbone:
    """In 64 bits: which rows share a batch changes the order of sums, and in 32 bits that could tip a token."""
    made = in_doubles(make_backbone("llama"))
    made.stops = frozenset(range(60, 100))
    return made


@pytest.fixture
def folder(base: Backbone, tmp_path: Path) -> Path:
    for layer, name in enumerate(("calm", "kind")):
        put(make_patch(base, name, length=3 + layer, strength=0.5 + layer), tmp_path, gate=dividing(base, layer))
    put(make_patch(base, "plain", length=6), tmp_path)
    return tmp_path


@pytest.fixture
def _restless() -> Iterator[None]:
    """Let threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless")
def test_threads_on_one_lab_get_what_one_after_the_other_gets(base: Backbone, folder: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 rows of eight stacks in three modes, some gated: texts, stops, what is skipped, and the bits of gates' scores."""
    scores: Scores = set()

    def kept(gate: Gate, state: Tensor) -> float:
        value = score(gate, state)
        scores.add((gate.digest, state.numpy().tobytes(), value))
        return value

    monkeypatch.setattr(plan, "score", kept)

    def all_of(threads: int) -> tuple[Sequence[object], Scores]:
        scores.clear()
        lab = Lab(base, registry=Registry([folder]))
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda call: call.answered(lab), ASKED))
        assert lab.scheduler.in_flight == 0
        return found, set(scores)

    alone, decided = all_of(1)
    said = [row for replies, _ in alone for row in replies]  # type: ignore[misc, has-type]
    skipped = {names for _, each in alone for names in each}  # type: ignore[misc, has-type]
    assert len(said) == 1000 and {stop for *_, stop, _ in said} == {"end", "length"}
    assert {len(names) for names in skipped} == {0, 1, 2} and len(decided) == 2 * len(PROMPTS)
    for threads in (2, 4):
        together, again = all_of(threads)
        assert together == alone and again == decided


@pytest.mark.usefixtures("_restless")
def test_streams_that_threads_close_midway_leave_the_others_as_they_are(base: Backbone, folder: Path) -> None:
    lab = Lab(base, registry=Registry([folder]))
    expected = [call.answered(lab) for call in ASKED[:16]]

    def read(k: int) -> object:
        if k % 2 == 0:
            return ASKED[k].answered(lab)
        running = lab.stream(ASKED[k].prompts, stack=ASKED[k].stack, samples=5, sampling=ASKED[k].sampling)
        for _ in range(k % 3):
            next(running, None)  # others may have taken all its steps by then
        running.close()
        return expected[k]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(16))) == expected
    assert lab.scheduler.in_flight == 0 and not lab.scheduler._line.jobs
