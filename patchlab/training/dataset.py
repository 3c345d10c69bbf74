"""Encoded prompts with replies in fixed batches, and the earlier turns that half of these may stand behind.

A patch that has only ever met its prompt right behind it knows nothing of prompts far away: the positions between, and whatever
else there is to attend to, are new to it. A reference need not read long texts to teach it: it reads each prompt alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from patchlab.engine.likelihood import Texts, pad_texts
from patchlab.errors import ContextError, TrainingError
from patchlab.models import Backbone
from patchlab.records import Kind, Prompt

SHORTEST = 16  # tokens of earlier turns that a batch is given at least

Row = tuple[Kind, list[int], list[int]]  # a prompt's kind and ids, and those of its reply


class Earlier:
    """Prompts with replies, for others of their kind to stand behind, with at most `most` tokens in all.

    Half of all batches stand behind none; the lengths of the others are as likely in every octave. They depend on the seed and
    a batch's number only. Raises TrainingError for rows of a kind that has no turns.
    """

    def __init__(self, backbone: Backbone, said: Sequence[tuple[Prompt, str]], *, most: int, seed: int) -> None:
        self.most, self.seed, self.opening = most, seed, backbone.tokenizer.bos_token_id
        self.turns: dict[Kind, list[list[int]]] = {}
        for kind, ids, reply in _encoded(backbone, said):
            self.turns.setdefault(kind, []).append([*ids[ids[:1] == [self.opening]:], *reply])

    def before(self, batch: Sequence[Row], number: int) -> list[tuple[list[int], list[int]]]:
        """The prompts and replies of a batch, each prompt behind as many turns as fit; a text has one opening mark."""
        draw = random.Random(f"{self.seed}|{number}")
        if draw.random() < 0.5 or self.most < SHORTEST:
            return [(ids, reply) for _, ids, reply in batch]
        tokens = round(SHORTEST * (self.most / SHORTEST) ** draw.random())
        return [(self._behind(kind, ids, tokens, draw), reply) for kind, ids, reply in batch]

    def _behind(self, kind: Kind, ids: list[int], tokens: int, draw: random.Random) -> list[int]:
        if kind not in self.turns:
            raise TrainingError(f"behind: {self.most} for prompts of kind {kind!r}, and none of that kind that are held",
                                expected="some for these to stand behind", do="add such prompts to the file, or set behind: 0")
        marked = ids[:1] == [self.opening]
        found: list[int] = []
        while True:
            turn = draw.choice(self.turns[kind])
            if len(found) + len(turn) > tokens:
                return [*ids[:marked], *found, *ids[marked:]]
            found += turn


class Rows:
    """Encoded prompts with replies, dealt in fixed batches of like length, in seeded order; batch k is always the same.

    With `earlier` half of the `batches` stand behind other turns; `alone` are the same rows with nothing before them.
    Raises ContextError for a text that does not fit behind a prefix of `length`.
    """

    def __init__(self, backbone: Backbone, said: Sequence[tuple[Prompt, str]], *, rows: int, seed: int, length: int = 0,
                 earlier: Earlier | None = None) -> None:
        all_rows = _encoded(backbone, said)
        longest = max(_length(row) for row in all_rows) + (earlier.most if earlier else 0)
        if length + longest > backbone.context:
            raise ContextError(f"{length + longest:,} positions needed by a training text, the prefix and what is between them",
                               expected=f"at most {backbone.context:,} available",
                               do="train on shorter prompts and replies, or with a shorter prefix, distance or behind")
        shuffled = random.Random(seed).sample(all_rows, len(all_rows))
        # like lengths together, by neighbourhoods of eight batches so that batches stay mixed
        near = rows * 8
        ordered = [row for at in range(0, len(shuffled), near) for row in sorted(shuffled[at:at + near], key=_length)]
        chunks = [ordered[at:at + rows] for at in range(0, len(ordered), rows)]
        self.alone = [pad_texts(backbone, [(ids, reply) for _, ids, reply in chunk]) for chunk in chunks]
        self.batches = [pad_texts(backbone, earlier.before(chunk, number)) for number, chunk in enumerate(chunks)
                        ] if earlier else self.alone
        self.seed = seed

    def deal(self, step: int) -> tuple[int, Texts]:
        """The batch of a step and its number."""
        turn, place = divmod(step, len(self.batches))
        order = random.Random(self.seed * 7919 + turn).sample(range(len(self.batches)), len(self.batches))
        return order[place], self.batches[order[place]]


def _encoded(backbone: Backbone, said: Sequence[tuple[Prompt, str]]) -> list[Row]:
    return [(prompt.kind, backbone.encode(prompt), backbone.encode_reply(reply, kind=prompt.kind)) for prompt, reply in said]


def _length(row: Row) -> int:
    return len(row[1]) + len(row[2])


def token_weights(texts: Texts, lead: float, fade: float = 0.0) -> Tensor:
    """The weight [N] of each reply token: `lead` for a reply's first, falling to 1 behind it by `fade` a token."""
    place = torch.arange(len(texts.rows), device=texts.rows.device)
    first = texts.rows.diff(prepend=texts.rows.new_tensor([-1])) > 0
    behind = place - torch.where(first, place, 0).cummax(0).values
    return 1 + (lead - 1) * torch.tensor(fade, device=behind.device) ** behind


def token_mean(each: Tensor, texts: Texts, whole: Texts, lead: float, fade: float = 0.0) -> Tensor:
    """What the reply tokens of a piece, `each` [N], add to the weighted mean over those of the whole step."""
    return (each * token_weights(texts, lead, fade)).sum() / token_weights(whole, lead, fade).sum()
