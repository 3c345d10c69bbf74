"""What happens when a visitor presses Run: a stream of views, in plain Python that knows no page.

A `View` holds names and numbers only. It is what the columns, the charts and the history are drawn from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from patchlab.errors import InputError
from patchlab.patches.stack import Entry, Mode, Stack
from patchlab.records import Delta, Prompt, Score, Stop

if TYPE_CHECKING:
    from patchlab.engine import Sampling, Trio
    from patchlab.scoring.table import Scorer

UPDATES_PER_SECOND = 10.0
Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Request:
    """One press of Run: the prompt, the stack the patched lane uses, and how to sample."""

    prompt: Prompt
    stack: Stack
    sampling: Sampling
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Text:
    """One reply so far: its text, its tokens, why it ended, and what each scorer says of exactly this text."""

    text: str = ""
    tokens: int = 0
    stop: Stop | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lane:
    """One column: its replies (one a sample) and, a scorer, the points (tokens, mean score) of its line."""

    name: str
    texts: tuple[Text, ...]
    lines: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows at one moment of a run."""

    prompt: Prompt
    stack: str
    patched: bool  # whether any patch of the stack has an effect
    mode: Mode
    lanes: tuple[Lane, ...]
    thresholds: Mapping[str, float]
    running: bool = True
    let_through: tuple[str, ...] = ()  # patches that their gates leave off for this prompt


def stack_of(
    order: Sequence[str], strengths: Mapping[str, float], *, mode: Mode = "parallel", shared: float | None = None,
    gates: bool = False,
) -> Stack:
    """The stack of the ticked patches, in `order`; `strengths` names those that are ticked.

    In sequential mode all patches are one piece and have one strength, `shared`.
    """
    entries = tuple(
        Entry(name, shared if mode == "sequential" else strengths[name]) for name in order if name in strengths
    )
    return Stack(entries, mode, gates)


def moved(order: Sequence[str], index: int, by: int) -> list[str]:
    """`order` with the name at `index` moved by one place up (-1) or down (+1); at an end nothing moves."""
    names, target = list(order), index + by
    if 0 <= target < len(names):
        names[index], names[target] = names[target], names[index]
    return names


def checked(prompt: Prompt) -> Prompt:
    """The prompt if there is one to run. Raises InputError for one without any visible text."""
    if not prompt.text.strip():
        raise InputError("the prompt is empty", expected="a question or the start of a text",
                         do="type one or pick an example")
    return prompt


def run(
    trio: Trio, scorers: Sequence[Scorer], request: Request, *, stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[View, None, None]:
    """Yield the view at most `UPDATES_PER_SECOND` times a second while all lanes write, and once when all are done.

    `stop` is asked after every step; where it says yes, what is unfinished is cancelled. Closing this generator closes
    the model's stream. Raises PatchLabError before the first view.
    """
    state = _Run(trio.lanes, scorers, request)
    prompts = [checked(request.prompt)]
    if request.stack.gates:
        [state.let_through] = trio.let_through(request.stack, prompts)
    stream = cast("Generator[tuple[Delta, ...], None, None]", trio.stream(
        prompts, stack=request.stack, samples=request.samples, sampling=request.sampling))
    try:
        last = float("-inf")  # the first step is shown at once
        for step in stream:
            state.take(step)
            if stop():
                break
            if clock() - last >= 1 / UPDATES_PER_SECOND:
                last = clock()
                yield state.view()
    finally:
        stream.close()
    yield cancelled(state.view(running=False))


def cancelled(view: View) -> View:
    """The view of a run that is over: what was still being written counts as cancelled."""
    lanes = tuple(
        replace(lane, texts=tuple(replace(text, stop=text.stop or "cancelled") for text in lane.texts))
        for lane in view.lanes
    )
    return replace(view, lanes=lanes)


class _Run:
    """The texts of a run as they grow, and the points of its charts."""

    def __init__(self, lanes: Sequence[str], scorers: Sequence[Scorer], request: Request) -> None:
        self.request, self.scorers, self.lanes = request, scorers, tuple(lanes)
        self.let_through: tuple[str, ...] = ()
        self.texts = {lane: [Text() for _ in range(request.samples)] for lane in lanes}
        self.lines: dict[str, dict[str, list[Point]]] = {lane: {s.name: [] for s in scorers} for lane in lanes}
        # texts that wait for their score: (lane, tokens) -> the lane's texts at that moment
        self.waiting: dict[tuple[str, int], list[str]] = {}

    def take(self, step: Sequence[Delta]) -> None:
        """Add one step of all lanes."""
        for delta in step:
            texts = self.texts[delta.lane]
            before = texts[delta.row]
            texts[delta.row] = Text(before.text + delta.text, delta.tokens, delta.stop if delta.done else None,
                                    before.scores)
        for lane in dict.fromkeys(delta.lane for delta in step):
            texts = self.texts[lane]
            if any(text.text.strip() for text in texts):
                self.waiting[lane, max(text.tokens for text in texts)] = [text.text for text in texts]

    def view(self, *, running: bool = True) -> View:
        """Score what has come since the last view, all texts of all lanes in one call a scorer, and show it."""
        keys = list(self.waiting)
        flat = [text for key in keys for text in self.waiting[key]]
        for scorer in self.scorers:
            given = [self.request.prompt.text] * len(flat)
            scores = scorer.score(flat, given) if flat else []
            width = self.request.samples
            for index, (lane, tokens) in enumerate(keys):
                found = scores[index * width : (index + 1) * width]
                line = self.lines[lane][scorer.name]
                if line and line[-1][0] == tokens:  # a step that ended a text without adding a token
                    line.pop()
                line.append((tokens, sum(score.value for score in found) / width))
                self.texts[lane] = [
                    replace(text, scores={**text.scores, scorer.name: score})
                    for text, score in zip(self.texts[lane], found, strict=True)
                ]
        self.waiting.clear()
        stack = self.request.stack
        return View(
            self.request.prompt, str(stack), any(entry.strength != 0 for entry in stack.entries), stack.mode,
            tuple(Lane(name, tuple(self.texts[name]), {s: tuple(p) for s, p in self.lines[name].items()})
                  for name in self.lanes),
            {scorer.name: scorer.threshold for scorer in self.scorers}, running, self.let_through,
        )
