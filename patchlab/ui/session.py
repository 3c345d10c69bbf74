"""What happens when a visitor presses Run: a stream of views, in plain Python that knows no page.

A `View` holds names and numbers only. It is what the columns, the charts and the history are drawn from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from patchlab.engine import Sampling, StackPlan, fixed, stream
from patchlab.errors import InputError
from patchlab.patches.stack import Entry, Mode, Stack
from patchlab.records import Delta, Prompt, Score, Stop
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.scoring.table import claim_of, stride_of
from patchlab.scoring.verdict import asked

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

UPDATES_PER_SECOND = 10.0
ChartPoint = tuple[int, float]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One press of Run: the prompt, the stack the patched lane uses, and how to sample."""

    prompt: Prompt
    stack: Stack
    sampling: Sampling
    samples: int = 1


@dataclass(frozen=True, slots=True)
class ReplyView:
    """One reply so far: its text, its tokens, why it ended, and the score of each claim.

    While a text grows, slow scorers may not have read its last few tokens.
    """

    text: str = ""
    tokens: int = 0
    stop: Stop | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaneView:
    """One column: its replies (one a sample) and, by claim, the points (tokens, mean score) of its line."""

    name: str
    replies: tuple[ReplyView, ...]
    lines: Mapping[str, tuple[ChartPoint, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows at one moment of a run; `patches` are those of its plan with their strengths, 0 is off."""

    prompt: Prompt
    mode: Mode
    patches: tuple[tuple[str, float], ...]
    lanes: tuple[LaneView, ...]
    thresholds: Mapping[str, float]
    running: bool = True
    skipped_by_gate: tuple[str, ...] = ()  # patches that their gates leave off for this prompt
    warnings: tuple[str, ...] = ()  # what is known to speak against the stack
    asked: PromptScore | None = None  # what the prompt asks for; of a text to continue nothing is asked
    verdicts: bool = False  # whether replies have a verdict in words

    @property
    def patched(self) -> bool:
        """Whether any patch of the stack is on."""
        return any(strength for _, strength in self.patches)


def stack_of(
    order: Sequence[str], strengths: Mapping[str, float], *, mode: Mode = "parallel", shared: float | None = None,
    gates: bool = False,
) -> Stack:
    """The stack of the ticked patches, in `order`; `strengths` names those that are ticked.

    In sequential mode all patches are one segment and have one strength, `shared`.
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
    lab: Lab, scorers: Sequence[Scorer], request: RunRequest, *, stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[View, None, None]:
    """Yield the view at most `UPDATES_PER_SECOND` times a second while all lanes write, and once when all are done.

    The stack is resolved once, to what is installed now. `stop` is asked before every step; where it says yes, what is unfinished
    is cancelled. Closing this generator closes the models' stream. Raises PatchLabError before the first view.
    """
    prompt = checked(request.prompt)
    plan = lab.planner.plan(request.stack, prompt)
    lanes = [replace(lane, plans=fixed(plan)) if lane.name == "patched" else lane for lane in lab.lanes()]
    written = _Written(lab.lane_names, scorers, request, plan, verdicts=lab.judges.name == "encoder")
    last = float("-inf")  # the first step is shown at once
    with closing(stream(lanes, [prompt], samples=request.samples, sampling=request.sampling, stop=stop)) as steps:
        for deltas in steps:
            written.take(deltas)
            if clock() - last >= 1 / UPDATES_PER_SECOND:
                last = clock()
                yield written.view()
    yield cancelled(written.view(running=False))


def cancelled(view: View) -> View:
    """The view of a run that is over: what was still being written counts as cancelled."""
    lanes = tuple(
        replace(lane, replies=tuple(replace(reply, stop=reply.stop or "cancelled") for reply in lane.replies))
        for lane in view.lanes
    )
    return replace(view, lanes=lanes)


def token_steps(deltas: Sequence[Delta]) -> Iterator[list[Delta]]:
    """Deltas as steps with at most one of each row: there are several of a row after steps that other visitors' runs took."""
    counts: Counter[tuple[str, int]] = Counter()
    steps: list[list[Delta]] = []
    for delta in deltas:
        place = counts[delta.lane, delta.row]
        counts[delta.lane, delta.row] += 1
        steps += [[]] if place == len(steps) else []
        steps[place].append(delta)
    yield from steps


class _Written:
    """The replies of a run as they grow, and the points of its charts."""

    def __init__(self, lanes: Sequence[str], scorers: Sequence[Scorer], request: RunRequest, plan: StackPlan, *,
                 verdicts: bool = False) -> None:
        self.asked = asked(request.prompt.text) if request.prompt.kind == "chat" else None
        self.verdicts = verdicts
        self.request, self.plan, self.scorers, self.lanes = request, plan, scorers, tuple(lanes)
        self.replies = {lane: [ReplyView() for _ in range(request.samples)] for lane in lanes}
        self.lines: dict[str, dict[str, list[ChartPoint]]] = {lane: {claim_of(s.name): [] for s in scorers} for lane in lanes}
        # texts that a scorer has not read yet: (lane, tokens) -> the lane's texts at that moment
        self.unscored: dict[str, dict[tuple[str, int], list[str]]] = {s.name: {} for s in scorers}

    def take(self, deltas: Sequence[Delta]) -> None:
        """Add what all lanes gained."""
        for step in token_steps(deltas):
            for delta in step:
                replies = self.replies[delta.lane]
                before = replies[delta.row]
                replies[delta.row] = ReplyView(before.text + delta.text, delta.tokens, delta.stop if delta.done else None,
                                               before.scores)
            for lane in dict.fromkeys(delta.lane for delta in step):
                replies = self.replies[lane]
                if any(reply.text.strip() for reply in replies):
                    for waiting in self.unscored.values():
                        waiting[lane, max(reply.tokens for reply in replies)] = [reply.text for reply in replies]

    def view(self, *, running: bool = True) -> View:
        """Score what has come since the last view, all texts of all lanes in one call a scorer, and show it."""
        width = self.request.samples
        for scorer in self.scorers:
            claim, waiting = claim_of(scorer.name), self._due(scorer, running=running)
            flat = [text for texts in waiting.values() for text in texts]
            scores = scorer.score(flat, [self.request.prompt.text] * len(flat)) if flat else []
            for index, (lane, tokens) in enumerate(waiting):
                found = scores[index * width : (index + 1) * width]
                line = self.lines[lane][claim]
                if line and line[-1][0] == tokens:  # a step that ended a text without adding a token
                    line.pop()
                if known := [score.value for score in found if score.known]:
                    line.append((tokens, sum(known) / len(known)))
                self.replies[lane] = [
                    replace(reply, scores={**reply.scores, claim: score})
                    for reply, score in zip(self.replies[lane], found, strict=True)
                ]
        return View(
            self.request.prompt, self.request.stack.mode, tuple((one.name, one.strength) for one in self.plan.patches),
            tuple(LaneView(name, tuple(self.replies[name]), {s: tuple(p) for s, p in self.lines[name].items()})
                  for name in self.lanes),
            {claim_of(scorer.name): scorer.threshold for scorer in self.scorers}, running, self.plan.skipped, self.plan.warnings,
            self.asked, self.verdicts,
        )

    def _due(self, scorer: Scorer, *, running: bool) -> dict[tuple[str, int], list[str]]:
        """The texts to score now, which no longer wait: all, or for a slow scorer each lane's newest after some tokens."""
        waiting, stride = self.unscored[scorer.name], stride_of(scorer)
        if stride == 1:
            self.unscored[scorer.name] = {}
            return waiting
        due = {}
        for lane in self.lanes:
            newest = max((tokens for name, tokens in waiting if name == lane), default=0)
            line = self.lines[lane][claim_of(scorer.name)]
            if newest and (not running or newest >= (line[-1][0] if line else 0) + stride):
                due[lane, newest] = waiting[lane, newest]
        for lane, tokens in [key for key in waiting if key[0] in {name for name, _ in due}]:
            del waiting[lane, tokens]
        return due
