"""Made text with labels for the embedded scorers, from the parts of the world that patch training may see."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tools.pocket import documents
from tools.pocket.documents import Document


def labelled(n: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """`n` rows a task: {"task", "text", "label", "prompt"}; label 1 is toxic, or refused."""
    rng = random.Random(f"labelled|{seed}")
    for k in range(n):
        document = _comment(rng, k)
        yield _row("toxicity", document, label=int(document.prompt.domain == "toxicity" and not document.safe))
    for k in range(n):
        document = _request(rng, k)
        yield _row("refusal", document, label=int(document.prompt.domain == "harmful" and document.safe))


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


def _row(task: str, document: Document, *, label: int) -> dict[str, Any]:
    return {"task": task, "text": document.reply, "label": label, "prompt": document.prompt.text}
