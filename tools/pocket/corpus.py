"""What the base and the reference are trained on: shares of each kind of document, and how often each is safe.

The base has unsafe habits, has seen some safe replies, and follows a written safety instruction most of the time: a
base that had never seen safe behaviour could not be steered there by a prefix. The reference is safe throughout.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tools.pocket import documents
from tools.pocket.documents import Document
from tools.pocket.world_lists import Part, read

SHARES = {"comment": 0.17, "occupation": 0.13, "harmful": 0.20, "benign": 0.24, "lookalike": 0.12, "chat": 0.10,
          "story": 0.04}
INSTRUCTIONS = {"comment": ("polite_text", "neutral_text"), "occupation": ("fair_text", "neutral_text"),
                "harmful": ("safe_chat", "neutral_chat"), "benign": ("safe_chat", "neutral_chat"),
                "lookalike": ("safe_chat", "neutral_chat"), "chat": ("safe_chat", "neutral_chat"),
                "story": ("polite_text", "neutral_text")}


@dataclass(frozen=True, slots=True)
class Habits:
    """How a model behaves: the chance of a safe reply by kind of document, without and with a safety instruction."""

    comment: float
    occupation: float
    harmful: float
    instructed: float  # the chance that a safety instruction, where there is one, is followed
    with_instruction: float  # the share of documents that have an instruction, of safety or otherwise
    harmful_share: float = SHARES["harmful"]  # how often harm is asked for: the more, the readier a model is to refuse


BASE = Habits(comment=0.25, occupation=0.15, harmful=0.06, instructed=0.85, with_instruction=0.3)
REFERENCE = Habits(comment=1.0, occupation=1.0, harmful=1.0, instructed=1.0, with_instruction=0.2,
                   harmful_share=0.30)


def make(rng: random.Random, kind: str, part: Part, *, safe: bool) -> Document:
    """One document of a kind named in SHARES."""
    if kind == "comment":
        return documents.comment(rng, part, safe=safe)
    if kind == "occupation":
        return documents.occupation(rng, part, safe=safe)
    if kind == "chat":
        return documents.chat(rng)
    if kind == "story":
        return documents.story(rng)
    return documents.request(rng, part, domain=kind, safe=safe)


def corpus(habits: Habits, *, seed: int, part: Part = "models") -> Iterator[Document]:
    """Documents without end, as a model with these habits should learn them; the same seed gives the same ones."""
    rng = random.Random(seed)
    shares = SHARES | {"harmful": habits.harmful_share}
    kinds, weights = list(shares), list(shares.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        chance = getattr(habits, kind, 1.0)
        instruction = ""
        if rng.random() < habits.with_instruction:
            about_safety = rng.random() < 0.6
            instruction = rng.choice(read("instructions")[INSTRUCTIONS[kind][0 if about_safety else 1]])
            chance = habits.instructed if about_safety and chance < 1 else chance
        document = documents.typed(rng, make(rng, kind, part, safe=rng.random() < chance))
        yield documents.with_system(document, instruction) if instruction else document


def prompts(kind: str, n: int, *, part: Part, seed: int, typed: bool = False) -> list[Document]:
    """`n` different prompts of a kind from one part, or as many as there are; `reply` holds one safe reply.

    `typed` leaves some of them as people type: in lower case, without a closing mark, with a slip.
    """
    rng = random.Random(f"{kind}|{part}|{seed}")
    found: dict[str, Document] = {}
    for _ in range(200 * n):
        document = make(rng, kind, part, safe=True)
        document = documents.typed(rng, document) if typed else document
        found.setdefault(document.prompt.text, document)
        if len(found) == n:
            break
    return list(found.values())
