"""Long prompts of the made world, its documents one behind the other; and a base that has learned to read such texts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

from patchlab.models import Backbone, preset
from patchlab.records import Prompt
from tools.pocket.corpus import prompts
from tools.pocket.documents import Document
from tools.pocket.language_model import Size, encode
from tools.pocket.next import Release

MOST = 400  # different documents a kind to fill with
TOGETHER = (1, 4, 16, 64)  # documents in a row while a base learns to read long texts: up to its whole context


@cache
def _documents(kind: str) -> list[Document]:
    """Harmless documents that no patch is about: small talk and requests for a chat, stories for a text."""
    names = ("benign", "chat") if kind == "chat" else ("story",)
    return [document for name in names for document in prompts(name, MOST, part="models", seed=0)]


@cache
def _encoded(tokenizer: Any, kind: str) -> Sequence[tuple[list[int], list[int]]]:
    """The documents as ids of their prompts and replies."""
    return encode(tokenizer, _documents(kind))


def long_ids(backbone: Backbone, prompt: Prompt, *, tokens: int, seed: int) -> list[int]:
    """Token ids of `prompt` behind as many documents, each closed by the end mark, as fit into `tokens`.

    For a chat that is what its template makes of earlier turns. The prompt alone where nothing fits.
    """
    documents = list(_encoded(backbone.tokenizer, prompt.kind))
    random.Random(f"{seed}|{prompt.text}").shuffle(documents)
    first, *own = backbone.encode(prompt)
    before: list[int] = []
    for (_, *asked), replied in cycle(documents):
        if 1 + len(before) + len(asked) + len(replied) + len(own) > tokens:
            break
        before += [*asked, *replied]
    return [first, *before, *own]


def long_reader(folder: Path, *, steps: int, rows: int) -> Release:
    """The pocket base trained on, on rows of one to many documents, for a context as long as its positions."""
    return Release(source=Path(preset("pocket").source("base")), out=folder, steps=steps, together=TOGETHER,
                   size=Size(rows=rows, peak_rate=2.5e-3))
