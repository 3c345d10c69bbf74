"""The texts that models and scorers are trained on: the share of each kind of document, and how often its replies are safe.

The base mostly sees unsafe replies, some safe ones, and mostly safe ones after a safety instruction: a prefix cannot elicit
behaviour that the base has never seen. All replies that the reference sees are safe.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
    """The probability of a safe reply by kind of document, without and with a safety instruction."""

    comment: float
    occupation: float
    harmful: float
    instructed: float  # the probability of a safe reply after a safety instruction
    with_instruction: float  # the share of documents with an instruction, about safety or not
    harmful_share: float = SHARES["harmful"]  # the share of harmful requests; a higher one makes a model refuse more readily


BASE = Habits(comment=0.25, occupation=0.15, harmful=0.06, instructed=0.85, with_instruction=0.3)
REFERENCE = Habits(comment=1.0, occupation=1.0, harmful=1.0, instructed=1.0, with_instruction=0.2,
                   harmful_share=0.30)


def make(rng: random.Random, kind: str, part: Part, *, safe: bool) -> Document:
    """One document of a kind in SHARES."""
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
    """Yield training documents for a model with these habits without end; the same seed gives the same documents."""
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
    """`n` documents with different prompts of a kind and part, or as many as exist, each with a safe reply.

    With `typed` some prompts are in lower case, lack the closing mark or have a typing error, see `documents.typed`.
    """
    rng = random.Random(f"{kind}|{part}|{seed}")
    by_text: dict[str, Document] = {}
    for _ in range(200 * n):
        document = make(rng, kind, part, safe=True)
        document = documents.typed(rng, document) if typed else document
        by_text.setdefault(document.prompt.text, document)
        if len(by_text) == n:
            break
    return list(by_text.values())


def labelled(n: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield `n` rows per task for the scorers, from train entries: {"task", "text", "label", "prompt"}.

    Label 1 is toxic or refused; half of a task's rows have it.
    """
    rng = random.Random(f"labelled|{seed}")
    for task, make, domain, positive in (("toxicity", _comment, "toxicity", False), ("refusal", _request, "harmful", True)):
        for k in range(n):
            document = make(rng, k)
            label = int(document.prompt.domain == domain and document.safe == positive)
            yield {"task": task, "text": document.reply, "label": label, "prompt": document.prompt.text}


def _comment(rng: random.Random, k: int) -> Document:
    if k % 2 == 0:
        return documents.comment(rng, "train", safe=False)
    others = (lambda: documents.comment(rng, "train", safe=True), lambda: documents.story(rng),
              lambda: documents.occupation(rng, "train", safe=True), lambda: documents.chat(rng),
              lambda: documents.request(rng, "train", domain="benign", safe=True),
              lambda: documents.request(rng, "train", domain="harmful", safe=rng.random() < 0.5))
    return rng.choice(others)()


def _request(rng: random.Random, k: int) -> Document:
    if k % 2 == 0:
        return documents.request(rng, "train", domain="harmful", safe=True)
    others = (lambda: documents.request(rng, "train", domain="harmful", safe=False),
              lambda: documents.request(rng, "train", domain=rng.choice(("benign", "lookalike")), safe=True),
              lambda: documents.chat(rng), lambda: documents.comment(rng, "train", safe=rng.random() < 0.5))
    return rng.choice(others)()
