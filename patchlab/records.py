"""Frozen records that cross layers. No tensors here: text, numbers and names only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from patchlab.errors import InputError

Kind = Literal["chat", "continue"]
Role = Literal["system", "user", "assistant"]
Stop = Literal["end", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. Raises InputError for an unknown role or an empty content."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InputError(f"a message with the role {str(self.role)[:80]!r}", expected=" or ".join(get_args(Role)),
                             do="correct the role")
        if not (isinstance(self.content, str) and self.content.strip()):
            raise InputError(f"an empty {self.role} message", expected="some text in every message", do="fill it or leave it out")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: the text of the current turn, with the messages before it.

    `chat` goes through the model's chat template, `continue` is plain text to go on from. `system` is a written instruction
    (the baseline that patches are compared with), `earlier` the finished exchanges before this turn: user, assistant, user,
    assistant. Raises InputError for turns out of order.
    """

    text: str
    kind: Kind = "chat"
    domain: str = ""
    id: str = ""
    system: str = ""
    earlier: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"a prompt of kind {str(self.kind)[:80]!r}", expected=" or ".join(get_args(Kind)),
                             do="choose one of those")
        if self.earlier and self.kind == "continue":
            raise InputError("earlier messages before a text to continue", expected="kind 'chat' for a conversation",
                             do="leave out the kind or the earlier messages")
        roles = [message.role for message in self.earlier]
        if roles != ["user", "assistant"] * (len(roles) // 2):
            raise InputError(f"a conversation with the roles {', '.join([*roles, 'user'])[:200]}",
                             expected="user and assistant in turn, beginning and ending with user",
                             do="put the messages in order; a system message comes first")

    @classmethod
    def of(cls, messages: Sequence[Message | Mapping[str, str]], *, domain: str = "", id: str = "") -> Prompt:
        """The prompt of a conversation that ends in a user message, as `{"role": ..., "content": ...}` or Message values.

        Raises InputError for messages that are none, or out of order.
        """
        found = [_message(message) for message in messages]
        system = found.pop(0).content if found and found[0].role == "system" else ""
        if not found or found[-1].role != "user":
            raise InputError(f"a conversation that ends in {found[-1].role if found else 'no'} message",
                             expected="a user message at the end", do="add what the user asks now")
        return cls(found[-1].content, "chat", domain, id, system, tuple(found[:-1]))

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages in order, the current turn last."""
        first = (Message("system", self.system),) if self.system else ()
        return (*first, *self.earlier, Message("user", self.text))

    @property
    def key(self) -> str:
        """What tells prompts apart: kind, instruction, earlier messages and text, and nothing else."""
        if not (self.system or self.earlier):
            return f"{self.kind}:{self.text}"
        said = [[message.role, message.content] for message in self.earlier]
        return f"{self.kind}:{json.dumps([self.system, said, self.text])}"


def _message(message: Message | Mapping[str, str]) -> Message:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise InputError(f"a message that is {str(message)[:80]!r}", expected='{"role": ..., "content": ...}',
                         do="give every message a role and a content")
    return Message(message["role"], message["content"])  # type: ignore[arg-type]  # the constructor checks the role


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
    """A preference: for `prompt`, `chosen` is better than `rejected` by the scores given (0 best, 1 worst).

    A reply that is `cut` was ended by the length limit and not by the model.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    chosen_score: float = 0.0
    rejected_score: float = 1.0
    chosen_cut: bool = False
    rejected_cut: bool = False


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
