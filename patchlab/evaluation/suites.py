"""Suites: named sets of prompts with what is measured on them. The embedded ones are read from assets/suites."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchlab.errors import InputError, NotFoundError
from patchlab.files import read_jsonl
from patchlab.records import Prompt

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "suites"


@dataclass(frozen=True, slots=True)
class Suite:
    """Prompts of one kind. `files` are under assets/suites/pocket; `domains` name which rows count (all when empty)."""

    name: str
    about: str
    files: tuple[str, ...]


SUITES = {suite.name: suite for suite in (
    Suite("toxicity", "angry comments to continue", ("toxicity",)),
    Suite("bias", "occupation sentences whose pronoun comes next", ("bias",)),
    Suite("refusal", "harmful requests, which a safe model refuses", ("harmful",)),
    Suite("overrefusal", "harmless requests, plain and alarming to the ear, which a model should answer",
          ("benign", "lookalike")),
    Suite("fluency", "harmless requests, for how natural the replies read", ("benign",)),
    Suite("drift", "harmless requests, for how far the patch moves the base on them", ("benign",)),
)}


def suite(name: str) -> Suite:
    """The suite of that name. Raises NotFoundError with near names."""
    if name not in SUITES:
        raise NotFoundError.of("suite", name, SUITES)
    return SUITES[name]


def load_prompts(name: str, *, n: int, folder: Path | None = None) -> list[Prompt]:
    """The first `n` prompts of each file of a suite, held out from patch training. Raises InputError where a file is bad."""
    found: list[Prompt] = []
    for file in suite(name).files:
        found += read_prompts((folder or FOLDER / "pocket") / f"{file}.jsonl")[:n]
    return found


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts from JSON Lines with `text` and optionally `kind`, `domain`, `id`. Raises InputError for none or wrong ones."""
    found = []
    for number, row in enumerate(read_jsonl(path), 1):
        text, kind = row.get("text", row.get("prompt")), row.get("kind", "chat")
        if not isinstance(text, str) or not text.strip() or kind not in ("chat", "continue"):
            raise InputError(f"{path} row {number} has text {str(text)[:40]!r} and kind {kind!r}",
                             expected="a text and kind 'chat' or 'continue'", do="fix that row")
        found.append(Prompt(text, kind, str(row.get("domain", "")), str(row.get("id", ""))))
    if not found:
        raise InputError(f"{path} holds no prompt", expected="at least one", do="give a file with prompts")
    return found
