"""Frozen records that pass between layers. They hold text, numbers and names, and no tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from patchlab.errors import InputError

Kind = Literal["chat", "continue"]
Role = Literal["system", "user", "assistant"]
Stop = Literal["end", "length", "cancelled", "error"]
EMPTY, UNJUDGED = "empty", "unjudged"  # labels of a text without an answer, and of one in a language its scorer does not know


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. Raises InputError for an unknown role or empty content."""

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
    """The text of the current user turn, with the messages before it.

    Kind `chat` is rendered by the model's chat template, `continue` is plain text to continue. `system` is a system message,
    `earlier` the previous turns: user, assistant, user, assistant. Raises InputError for turns in another order.
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
        """The prompt of a conversation that ends with a user message, from `{"role": ..., "content": ...}` or Message values.

        Raises InputError for a value that is not a message, and for messages in another order.
        """
        turns = [_message(message) for message in messages]
        system = turns.pop(0).content if turns and turns[0].role == "system" else ""
        if not turns or turns[-1].role != "user":
            raise InputError(f"a conversation that ends in {turns[-1].role if turns else 'no'} message",
                             expected="a user message at the end", do="add the user's message")
        return cls(turns[-1].content, "chat", domain, id, system, tuple(turns[:-1]))

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages in order, the current user turn last."""
        first = (Message("system", self.system),) if self.system else ()
        return (*first, *self.earlier, Message("user", self.text))

    @property
    def key(self) -> str:
        """A string that is equal for prompts with equal kind, system message, earlier messages and text."""
        if not (self.system or self.earlier):
            return f"{self.kind}:{self.text}"
        earlier = [[message.role, message.content] for message in self.earlier]
        return f"{self.kind}:{json.dumps([self.system, earlier, self.text])}"


def _message(message: Message | Mapping[str, str]) -> Message:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise InputError(f"a message that is {str(message)[:80]!r}", expected='{"role": ..., "content": ...}',
                         do="give every message a role and a content")
    return Message(message["role"], message["content"])  # type: ignore[arg-type]  # the constructor checks the role


@dataclass(frozen=True, slots=True)
class Delta:
    """The text that one row of one lane gained in one step; `tokens` counts the row's tokens so far.

    A row that failed has `stop` "error" and the reason in `error`.
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
    """A finished reply of one lane to one prompt, for one sample."""

    lane: str
    row: int
    prompt: Prompt
    sample: int
    text: str
    tokens: int
    stop: Stop


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair: for `prompt`, `chosen` is preferred over `rejected`. Scores are in [0, 1], lower is better.

    `chosen_cut` and `rejected_cut` mark replies that ended at the length limit.
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
    """A scorer's result for one text: `value` in [0, 1], `flagged` at or above the threshold, and the class as `label`.

    A text with the label EMPTY or UNJUDGED is never flagged; `known` tells it from one that the scorer found clear.
    """

    scorer: str
    value: float
    flagged: bool
    label: str

    @property
    def known(self) -> bool:
        """Whether the scorer judged the text."""
        return self.label not in (EMPTY, UNJUDGED)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a report: a suite's metric for one lane, with its 95 % interval, the number of prompts and the scorer."""

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
    """Progress of a long operation: `done` of `total` units of `stage`, with numbers to plot."""

    stage: str
    done: int
    total: int
    message: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`second` minus `first`, two lanes on the same prompts, with its 95 % interval and two-sided paired p-value."""

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
    """Agreement of two scorers on the same `n` replies: Cohen's kappa with its 95 % interval, and the share of equal labels."""

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
    """The result of an evaluation: measures, example replies, and the settings and versions they were made with.

    `seconds` are the same measures by a second scorer, `details` are measures of subgroups (by occupation), `scorers` maps each
    scorer to its digest, `notes` say what could not be measured and why.
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
