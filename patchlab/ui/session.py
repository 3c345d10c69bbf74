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
from patchlab.records import Delta, Kind, Message, Prompt, Score, Stop
from patchlab.scoring.prompt_judge import PromptLabel, PromptScore
from patchlab.scoring.table import claim_of, stride_of
from patchlab.scoring.verdict import asked
from patchlab.ui.copy import SKIPPED_BY_GATE

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

UPDATES_PER_SECOND = 10.0
MOST_TURNS = 12  # of a conversation: as far as the effect of patches behind earlier turns was measured
ChartPoint = tuple[int, float]
_ASKED: dict[str, PromptLabel] = {"refusal": "harmful", "everyday": "harmless"}  # by domain


@dataclass(frozen=True, slots=True)
class OtherStack:
    """A further column: its lane, what is on it in the page's words, and the stack, which no switch of the page changes."""

    lane: str
    label: str
    stack: Stack


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One press of Run: the prompt, the stack the patched lane uses, how to sample, and the conversation that goes on."""

    prompt: Prompt
    stack: Stack
    sampling: Sampling
    samples: int = 1
    turns: tuple[View, ...] = ()  # as `continued` makes them
    others: tuple[OtherStack, ...] = ()


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

    @property
    def writing(self) -> bool:
        """Whether any of its replies is not finished."""
        return any(reply.stop is None for reply in self.replies)


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
    longest: int = 0  # tokens that a reply may have
    turns: tuple[View, ...] = ()  # the conversation before, oldest first, each lane with the reply that it goes on from
    labels: Mapping[str, str] = field(default_factory=dict)  # what is on further columns, by lane

    @property
    def whole(self) -> bool:
        """Whether every reply is complete."""
        return not self.running and all(reply.stop in ("end", "length") for lane in self.lanes for reply in lane.replies)

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


def asked_of(prompt: Prompt) -> PromptScore | None:
    """What a prompt asks for, as its domain says or else the judge; None for a text to continue."""
    if prompt.kind != "chat":
        return None
    known = _ASKED.get(prompt.domain)
    return PromptScore(known, float("nan"), float("nan")) if known else asked(prompt.text)


def continued(view: View, kind: Kind = "chat") -> tuple[View, ...]:
    """The turns of a conversation that goes on from a view, of several replies from the first, with a prompt of this kind.

    Raises InputError if it cannot.
    """
    new = "begin a new conversation"
    if "continue" in (kind, view.prompt.kind):
        raise InputError("a text to continue in a conversation", expected="a message to answer", do=f"choose “Answer”, or {new}")
    if len(view.turns) + 1 >= MOST_TURNS:
        raise InputError(f"a conversation of {MOST_TURNS} turns", expected="fewer, to ask again in it", do=new)
    lanes = tuple(replace(lane, replies=lane.replies[:1], lines={}) for lane in view.lanes)
    for lane in lanes:
        if not lane.replies[0].text.strip() or lane.replies[0].stop == "error":
            raise InputError(f"no reply of lane {lane.name!r} to go on from", expected="one in every lane",
                             do=f"ask for another seed, or {new}")
    return *view.turns, replace(view, lanes=lanes, turns=())


def said(turns: Sequence[View], name: str) -> tuple[Message, ...]:
    """What was asked in earlier turns and what the lane of this name replied."""
    replies = [lane.replies[0].text.strip() for turn in turns for lane in turn.lanes if lane.name == name]
    return tuple(message for turn, reply in zip(turns, replies, strict=True)
                 for message in (Message("user", turn.prompt.text), Message("assistant", reply)))


def run(
    lab: Lab, scorers: Sequence[Scorer], request: RunRequest, *, stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic, earlier: View | None = None,
) -> Generator[View, None, None]:
    """Yield the view at most `UPDATES_PER_SECOND` times a second while all lanes write, and once when all are done.

    With `earlier`, the view of a run that differed in its stack only, the patched lane alone is written: no stack changes the
    others. The stack is resolved once, to what is installed now. `stop` is asked before every step; where it says yes, what is
    unfinished is cancelled. Closing this generator closes the models' stream. Raises PatchLabError before the first view.
    """
    prompt = checked(request.prompt)
    stacks = {"patched": request.stack, **({each.lane: each.stack for each in request.others} if earlier is None else {})}
    names = (*lab.lane_names, *(each.lane for each in request.others)) if earlier is None else ("patched",)
    made = lab.lanes(names=names, others={name: stack for name, stack in stacks.items() if name != "patched"})
    lanes = {lane.name: replace(lane, earlier=said(request.turns, lane.name)) for lane in made}
    plans = {name: lab.planner.plans(stack, lanes[name].read([prompt]))[0] for name, stack in stacks.items()}
    lanes |= {name: replace(lanes[name], plans=fixed(plan)) for name, plan in plans.items()}
    written = _Written(names, scorers, request, plans, earlier)
    last = float("-inf")  # the first step is shown at once
    with closing(stream([*lanes.values()], [prompt], samples=request.samples, sampling=request.sampling, stop=stop)) as steps:
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


def _label(other: OtherStack, plan: StackPlan) -> str:
    """What is on a further column, with the patches that their gates leave off for this prompt."""
    return f"{other.label}. {SKIPPED_BY_GATE.format(names=', '.join(plan.skipped))}" if plan.skipped else other.label


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

    def __init__(self, lanes: Sequence[str], scorers: Sequence[Scorer], request: RunRequest, plans: Mapping[str, StackPlan],
                 earlier: View | None = None) -> None:
        self.asked = earlier.asked if earlier else asked_of(request.prompt)
        self.kept = earlier.lanes if earlier else ()
        self.request, self.plan, self.scorers, self.lanes = request, plans["patched"], scorers, tuple(lanes)
        self.labels = earlier.labels if earlier else {each.lane: _label(each, plans[each.lane]) for each in request.others}
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
        written = {name: LaneView(name, tuple(self.replies[name]), {s: tuple(p) for s, p in self.lines[name].items()})
                   for name in self.lanes}
        return View(
            self.request.prompt, self.request.stack.mode, tuple((one.name, one.strength) for one in self.plan.patches),
            tuple(written.get(lane.name, lane) for lane in self.kept) or tuple(written.values()),
            {claim_of(scorer.name): scorer.threshold for scorer in self.scorers}, running, self.plan.skipped, self.plan.warnings,
            self.asked, self.request.sampling.max_new_tokens, self.request.turns, self.labels,
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
