"""Encoded prompts with replies in fixed batches; half of the batches may have earlier turns before their prompts.

A prefix that was trained with each prompt right behind it loses its effect on prompts far from it. A teacher model reads the same
prompts without earlier turns.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from patchlab.engine.likelihood import Texts, pad_texts
from patchlab.errors import ContextError, TrainingError
from patchlab.models import Backbone
from patchlab.records import Kind, Prompt

SHORTEST = 16  # the fewest tokens of earlier turns that a batch is given

Encoded = tuple[list[int], list[int]]  # token ids of a prompt and of its reply
MicroBatch = tuple[int, int]  # number and total: one of the parts that a step's rows are divided into (`Texts.piece`)


class TrainingExample(NamedTuple):
    """A reply to learn; one that was `cut` by the length limit has no end mark, so that nobody learns to stop there."""

    prompt: Prompt
    reply: str
    cut: bool = False

    def encode(self, backbone: Backbone) -> Encoded:
        """Token ids of the prompt and of the reply."""
        return backbone.encode(self.prompt), backbone.encode_reply(self.reply, kind=self.prompt.kind, complete=not self.cut)


class History:
    """Complete exchanges that stand before prompts of the same kind, with at most `most` tokens in all.

    Half of the batches have none; for the others the logarithm of the length is uniform. They depend on the seed and a batch's
    number only. Raises TrainingError for a prompt of a kind that has no exchanges.
    """

    def __init__(self, backbone: Backbone, examples: Sequence[TrainingExample], *, most: int, seed: int) -> None:
        self.most, self.seed, self.opening = most, seed, backbone.tokenizer.bos_token_id
        self.exchanges: dict[Kind, list[list[int]]] = {}
        for example in examples:
            ids, reply = example._replace(cut=False).encode(backbone)  # a template closes every earlier reply
            self.exchanges.setdefault(example.prompt.kind, []).append([*ids[ids[:1] == [self.opening]:], *reply])

    def prepend(self, batch: Sequence[tuple[Kind, Encoded]], number: int) -> list[Encoded]:
        """The texts of a batch with as many exchanges before each prompt as fit; the opening token stays first."""
        draw = random.Random(f"{self.seed}|{number}")
        if draw.random() < 0.5 or self.most < SHORTEST:
            return [encoded for _, encoded in batch]
        tokens = round(SHORTEST * (self.most / SHORTEST) ** draw.random())
        return [(self._behind(kind, ids, tokens, draw), reply) for kind, (ids, reply) in batch]

    def _behind(self, kind: Kind, ids: list[int], tokens: int, draw: random.Random) -> list[int]:
        if kind not in self.exchanges:
            raise TrainingError(f"behind: {self.most} with prompts of kind {kind!r}, and no prompt of that kind to hold",
                                expected="prompts of the same kind for the earlier turns",
                                do="add such prompts to the file, or set behind: 0")
        opened = ids[:1] == [self.opening]
        found: list[int] = []
        while True:
            exchange = draw.choice(self.exchanges[kind])
            if len(found) + len(exchange) > tokens:
                return [*ids[:opened], *found, *ids[opened:]]
            found += exchange


class Dataset:
    """Encoded examples in fixed batches of similar length, visited in a seeded order; batch k is always the same.

    With `history` half of the `batches` have earlier turns before their prompts; `plain` are the same batches without.
    Raises ContextError for a text that does not fit behind a prefix of `length` positions.
    """

    def __init__(self, backbone: Backbone, examples: Sequence[TrainingExample], *, rows: int, seed: int, length: int = 0,
                 history: History | None = None) -> None:
        encoded = [(example.prompt.kind, example.encode(backbone)) for example in examples]
        longest = max(map(_length, encoded)) + (history.most if history else 0)
        if length + longest > backbone.context:
            raise ContextError(f"{length + longest:,} positions needed by a training text, the prefix and what is between them",
                               expected=f"at most {backbone.context:,} available",
                               do="train on shorter prompts and replies, or with a shorter prefix, distance or behind")
        shuffled = random.Random(seed).sample(encoded, len(encoded))
        # sorted by length within neighbourhoods of eight batches: little padding, and batches stay mixed
        near = rows * 8
        ordered = [row for at in range(0, len(shuffled), near) for row in sorted(shuffled[at:at + near], key=_length)]
        chunks = [ordered[at:at + rows] for at in range(0, len(ordered), rows)]
        self.plain = [pad_texts(backbone, [row for _, row in chunk]) for chunk in chunks]
        self.batches = [pad_texts(backbone, history.prepend(chunk, number)) for number, chunk in enumerate(chunks)
                        ] if history else self.plain
        self.seed = seed

    def batch(self, step: int) -> tuple[int, Texts]:
        """The number of a step's batch, and the batch."""
        epoch, place = divmod(step, len(self.batches))
        order = random.Random(self.seed * 7919 + epoch).sample(range(len(self.batches)), len(self.batches))
        return order[place], self.batches[order[place]]


def _length(row: tuple[Kind, Encoded]) -> int:
    return len(row[1][0]) + len(row[1][1])


def token_weights(texts: Texts, lead: float, fade: float = 0.0) -> Tensor:
    """The weight [N] of each reply token: `lead` for a reply's first; its excess over 1 shrinks by the factor `fade` a token."""
    place = torch.arange(len(texts.rows), device=texts.rows.device)
    first = texts.rows.diff(prepend=texts.rows.new_tensor([-1])) > 0
    since = place - torch.where(first, place, 0).cummax(0).values
    return 1 + (lead - 1) * torch.tensor(fade, device=since.device) ** since


def token_mean(each: Tensor, texts: Texts, whole: Texts, lead: float, fade: float = 0.0) -> Tensor:
    """What `each` [N], of the reply tokens of a micro-batch, adds to the weighted mean over those of the whole batch."""
    return (each * token_weights(texts, lead, fade)).sum() / token_weights(whole, lead, fade).sum()
