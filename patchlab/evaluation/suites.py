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
        rows = [_prompt(row, file) for row in read_jsonl((folder or FOLDER / "pocket") / f"{file}.jsonl")]
        found += rows[:n]
    return found


def read_prompt_file(path: Path) -> list[Prompt]:
    """All prompts of a JSON Lines file with `text`, `kind`, `domain` and `id`."""
    return [_prompt(row, path.name) for row in read_jsonl(path)]


def _prompt(row: dict, file: str) -> Prompt:
    text, kind = row.get("text"), row.get("kind", "chat")
    if not isinstance(text, str) or kind not in ("chat", "continue"):
        raise InputError(f"suite {file} has a row without text or of kind {kind!r}",
                         expected="text and kind 'chat' or 'continue'", do="fix the suite file")
    return Prompt(text, kind, str(row.get("domain", file)), str(row.get("id", "")))
