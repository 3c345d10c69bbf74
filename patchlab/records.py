"""Frozen records that cross layers. No tensors here: text, numbers and names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from patchlab.errors import InputError

Kind = Literal["chat", "continue"]
Stop = Literal["end", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: `chat` goes through a model's chat template, `continue` is plain text to go on from."""

    text: str
    kind: Kind = "chat"
    domain: str = ""
    id: str = ""
    system: str = ""  # a written instruction; the baseline that patches are compared with

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"a prompt of kind {str(self.kind)[:80]!r}", expected=" or ".join(get_args(Kind)),
                             do="choose one of those")


@dataclass(frozen=True, slots=True)
class Delta:
    """A streamed piece: what one row of one lane gained in one step. `tokens` counts the row's tokens so far.

    A row that failed stops with "error", and `error` says why.
    """

    lane: str
    row: int
    text: str
    tokens: int
    done: bool = False
    stop: Stop | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished text of one lane for one prompt and sample."""

    lane: str
    row: int
    prompt: Prompt
    sample: int
    text: str
    tokens: int
    stop: Stop


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: for `prompt`, `chosen` is better than `rejected` by the scores given (0 best, 1 worst)."""

    prompt: Prompt
    chosen: str
    rejected: str
    chosen_score: float = 0.0
    rejected_score: float = 1.0


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's verdict on one text: `value` in [0, 1], `flagged` when at or over the threshold, `label` in words."""

    scorer: str
    value: float
    flagged: bool
    label: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a report: a metric on a suite for a lane, with its 95 % interval and who scored it."""

    suite: str
    lane: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    scorer: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work is: `done` of `total` units of `stage`, with the numbers worth plotting."""

    stage: str
    done: int
    total: int
    message: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two lanes on the same prompts: `second` minus `first`, with its 95 % interval and a two-sided paired p-value."""

    suite: str
    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    scorer: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two scorers on the same `n` replies of a suite: Cohen's kappa with its 95 % interval, and the share judged alike."""

    suite: str
    first: str
    second: str
    kappa: float
    low: float
    high: float
    alike: float
    n: int


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found: its measures, example replies, and what they were made with.

    `seconds` are the same measures by a second scorer, `details` finer ones (by occupation), `scorers` the digest of
    each scorer by name, `notes` what could not be measured and why.
    """

    measures: tuple[Measure, ...]
    replies: tuple[Reply, ...]
    made_with: Mapping[str, str]
    seconds: tuple[Measure, ...] = ()
    details: tuple[Measure, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    scorers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
