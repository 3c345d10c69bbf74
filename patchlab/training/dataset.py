"""Encoded prompts with replies in fixed batches; half of the batches may have earlier turns before their prompts.

They stand as they do when the patch is used: behind a history that no patch changes, with the slots right before the current
turn. A teacher model reads the same prompts without earlier turns.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from patchlab.engine.likelihood import Texts, pad_texts
from patchlab.errors import ContextError, InputError, TrainingError
from patchlab.models import Backbone, Encoded
from patchlab.records import Kind, Message, Prompt

SHORTEST = 16  # the fewest tokens of earlier turns that a batch is given

Row = tuple[Encoded, list[int]]  # a prompt's token ids and those of its reply
MicroBatch = tuple[int, int]  # number and total: one of the parts that a step's rows are divided into (`Texts.piece`)


class TrainingExample(NamedTuple):
    """A reply to learn; one that was `cut` by the length limit has no end mark, so that nobody learns to stop there."""

    prompt: Prompt
    reply: str
    cut: bool = False

    def encode(self, backbone: Backbone) -> Row:
        """Token ids of the prompt and of the reply."""
        return (backbone.encode_turns(self.prompt),
                backbone.encode_reply(self.reply, kind=self.prompt.kind, complete=not self.cut))


class Exchange(NamedTuple):
    """A prompt and its complete reply as an earlier turn: its token ids, and for a chat its messages."""

    ids: list[int]
    messages: tuple[Message, ...]


class EarlierTurns:
    """Complete exchanges that stand before prompts of the same kind, with at most `most` tokens in all.

    Half of the batches have none; for the others the logarithm of the length is uniform. They depend on the seed and a batch's
    number only. Raises TrainingError for a prompt of a kind that has no exchanges.
    """

    def __init__(self, backbone: Backbone, examples: Sequence[TrainingExample], *, most: int, seed: int) -> None:
        self.backbone, self.most, self.seed, self.opening = backbone, most, seed, backbone.tokenizer.bos_token_id
        self.exchanges: dict[Kind, list[Exchange]] = {}
        for example in examples:
            exchange = self._exchange(example)
            if exchange is not None:
                self.exchanges.setdefault(example.prompt.kind, []).append(exchange)

    def _exchange(self, example: TrainingExample) -> Exchange | None:
        """A prompt and its reply as an earlier turn; None for a reply that cannot stand in a conversation."""
        text = example.prompt.text
        if example.prompt.kind == "continue":
            (ids, _, _), reply = example._replace(cut=False).encode(self.backbone)
            return Exchange([*ids[ids[:1] == [self.opening]:], *reply], ())
        messages = Message("user", text), Message("assistant", example.reply)
        try:
            ids, frame, turn = self.backbone.encode_turns(Prompt(text, earlier=messages))
        except InputError:
            return None
        return Exchange(ids[frame:turn], messages)

    def batch(self, examples: Sequence[TrainingExample], number: int) -> list[Row]:
        """The encoded examples of a batch; prompts of a kind have the same exchanges before them, as many as fit.

        So each history is read once and not once a row.
        """
        draw = random.Random(f"{self.seed}|{number}")
        if draw.random() < 0.5 or self.most < SHORTEST:
            return [example.encode(self.backbone) for example in examples]
        tokens = round(SHORTEST * (self.most / SHORTEST) ** draw.random())
        drawn = {kind: self._drawn(kind, tokens, draw) for kind in sorted({example.prompt.kind for example in examples})}
        return [self._behind(example, drawn[example.prompt.kind]) for example in examples]

    def _drawn(self, kind: Kind, tokens: int, draw: random.Random) -> list[Exchange]:
        """Exchanges of a kind, up to the first that no longer fits."""
        if kind not in self.exchanges:
            raise TrainingError(f"behind: {self.most} with prompts of kind {kind!r}, and no prompt of that kind to hold",
                                expected="prompts of the same kind for the earlier turns",
                                do="add such prompts to the file, or set behind: 0")
        found: list[Exchange] = []
        while True:
            exchange = draw.choice(self.exchanges[kind])
            tokens -= len(exchange.ids)
            if tokens < 0:
                return found
            found.append(exchange)

    def _behind(self, example: TrainingExample, exchanges: Sequence[Exchange]) -> Row:
        """An example behind exchanges: messages of a chat, or texts to continue, before which the opening token stays first."""
        prompt = example.prompt
        if prompt.kind == "chat":
            messages = [message for exchange in exchanges for message in exchange.messages]
            return example._replace(prompt=replace(prompt, earlier=(*messages, *prompt.earlier))).encode(self.backbone)
        (ids, _, _), reply = example.encode(self.backbone)
        opened = int(ids[:1] == [self.opening])
        before = [token for exchange in exchanges for token in exchange.ids]
        turn = opened + len(before) if before else 0
        return Encoded([*ids[:opened], *before, *ids[opened:]], opened if turn else 0, turn), reply


class Dataset:
    """Encoded examples in fixed batches of similar length, visited in a seeded order; batch k is always the same.

    With `history` half of the `batches` have earlier turns before their prompts; `plain` are the same batches without.
    Raises ContextError for a text that does not fit behind a prefix of `length` positions.
    """

    def __init__(self, backbone: Backbone, examples: Sequence[TrainingExample], *, rows: int, seed: int, length: int = 0,
                 history: EarlierTurns | None = None) -> None:
        lengths = {example: sum(map(len, (row[0].ids, row[1]))) for example in examples for row in [example.encode(backbone)]}
        longest = max(lengths.values()) + (history.most if history else 0)
        if length + longest > backbone.context:
            raise ContextError(f"{length + longest:,} positions needed by a training text, the prefix and what is between them",
                               expected=f"at most {backbone.context:,} available",
                               do="train on shorter prompts and replies, or with a shorter prefix, distance or behind")
        shuffled = random.Random(seed).sample(list(examples), len(examples))
        # sorted by length within neighbourhoods of eight batches: little padding, and batches stay mixed
        near = rows * 8
        ordered = [each for at in range(0, len(shuffled), near)
                   for each in sorted(shuffled[at:at + near], key=lambda example: lengths[example])]
        chunks = [ordered[at:at + rows] for at in range(0, len(ordered), rows)]
        self.plain = [pad_texts(backbone, [example.encode(backbone) for example in chunk]) for chunk in chunks]
        self.batches = [pad_texts(backbone, history.batch(chunk, number)) for number, chunk in enumerate(chunks)
                        ] if history else self.plain
        self.seed = seed

    def batch(self, step: int) -> tuple[int, Texts]:
        """The number of a step's batch, and the batch."""
        epoch, place = divmod(step, len(self.batches))
        order = random.Random(self.seed * 7919 + epoch).sample(range(len(self.batches)), len(self.batches))
        return order[place], self.batches[order[place]]


def places(texts: Texts) -> Tensor:
    """The place [N] of each reply token in its reply, from 0."""
    place = torch.arange(len(texts.rows), device=texts.rows.device)
    first = texts.rows.diff(prepend=texts.rows.new_tensor([-1])) > 0
    return place - torch.where(first, place, 0).cummax(0).values


def token_weights(texts: Texts, lead: float, fade: float = 0.0) -> Tensor:
    """The weight [N] of each reply token: `lead` for a reply's first; its excess over 1 shrinks by the factor `fade` a token."""
    since = places(texts)
    return 1 + (lead - 1) * torch.tensor(fade, device=since.device) ** since


def token_mean(each: Tensor, texts: Texts, whole: Texts, lead: float, fade: float = 0.0) -> Tensor:
    """What `each` [N], of the reply tokens of a micro-batch, adds to the weighted mean over those of the whole batch."""
    return (each * token_weights(texts, lead, fade)).sum() / token_weights(whole, lead, fade).sum()
