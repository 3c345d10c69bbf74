"""The prompts of a batch: pasted, uploaded or of a packaged suite. An upload is hostile until it is read.

A file is read up to a size and a number of prompts, by its ending and never by what its bytes claim to be. Errors say its name
and no path of the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from patchlab.errors import ContextError, InputError, NotFoundError
from patchlab.evaluation import load_prompts
from patchlab.evaluation.suites import own_prompt
from patchlab.records import Kind, Prompt
from patchlab.rows import Row, Rows

MAX_BYTES = 4 * 2**20
MAX_PROMPTS = 1000
PLAIN, TABLES = (".txt",), (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
SUITES = ("refusal", "overrefusal", "toxicity")  # packaged ones for which refused, toxic and empty are what matters
_SPLIT = "divide them into several batches"


def pasted(text: str, kind: Kind) -> list[Prompt]:
    """A prompt a line; empty lines do not count. Raises InputError for too many or none."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InputError("a text of more than 4 MiB", expected="at most 4 MiB", do=_SPLIT)
    prompts = [Prompt(line.strip(), kind) for line in text.splitlines() if line.strip()]
    if not prompts:
        raise InputError("no prompt", expected="one on each line", do="paste some, upload a file or choose a suite")
    return _few(prompts)


def uploaded(path: Path, kind: Kind, notes: list[str]) -> list[Prompt]:
    """The prompts of an uploaded file; rows that cannot be used are skipped and told in `notes`. Raises InputError."""
    name, suffix = _shown(path), path.suffix.lower()
    if suffix not in (*PLAIN, *TABLES):
        raise InputError(f"the file {name}", expected=f"one that ends in {', '.join((*PLAIN, *TABLES))}", do="save it as such")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise InputError(f"{name} of {size:,} bytes", expected=f"1 to {MAX_BYTES:,}",
                         do=_SPLIT if size else "choose a file with prompts")
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":  # the reader of rows would unpack it, to whatever size
        raise InputError(f"{name}, which is compressed", expected="a plain file", do="unpack it first")
    if suffix in PLAIN:
        try:
            return pasted(data.decode("utf-8-sig"), kind)
        except UnicodeDecodeError:
            raise InputError(f"{name}, which is not UTF-8 text", expected="UTF-8", do="save it as UTF-8") from None
    rows = Rows(path, notes=notes)
    rows.name = name
    found: list[Prompt] = []
    for prompt in rows.each(lambda row: own_prompt({"kind": kind, **row} if _bare(row) else row)):
        found.append(prompt)
        if len(found) > MAX_PROMPTS:
            break
    return _few(found)


def of_suite(name: str, n: int) -> list[Prompt]:
    """The first `n` prompts of each file of a packaged suite. Raises NotFoundError, InputError."""
    if name not in SUITES:
        raise NotFoundError.of("suite", name, SUITES)
    return _few(load_prompts(name, n=n))


def fitting(prompts: Sequence[Prompt], check: Callable[[Prompt], object], notes: list[str]) -> list[Prompt]:
    """The prompts that pass `check`, each once; what is left out is told in `notes`. Raises its InputError where none passes."""
    unique = list({prompt.key: prompt for prompt in prompts}.values())
    found, first, long = [], None, 0
    for prompt in unique:
        try:
            check(prompt)
            found.append(prompt)
        except ContextError as error:
            first, long = first or error, long + 1
    if first and not found:
        raise first
    notes += [f"Repeated prompts, asked once: {len(prompts) - len(unique)}"] if len(unique) < len(prompts) else []
    notes += [f"Prompts left out as too long for the models: {long}"] if long else []
    return found


def as_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as the row that `own_prompt` reads."""
    more = {"domain": prompt.domain, "id": prompt.id}
    if prompt.earlier or prompt.system:
        return {"messages": [{"role": each.role, "content": each.content} for each in prompt.messages], **more}
    return {"text": prompt.text, "kind": prompt.kind, **more}


def _bare(row: Row) -> bool:
    """Whether a row says a text and nothing of how it is asked."""
    return not row.get("kind") and not row.get("messages") and not row.get("history") and not isinstance(row.get("prompt"), list)


def _few(prompts: list[Prompt]) -> list[Prompt]:
    if len(prompts) > MAX_PROMPTS:
        raise InputError(f"more than {MAX_PROMPTS:,} prompts", expected=f"at most {MAX_PROMPTS:,}", do=_SPLIT)
    return prompts


def _shown(path: Path) -> str:
    """The name of an uploaded file, short and of printable characters."""
    name = "".join(char if char.isprintable() else "\ufffd" for char in path.name)
    return name if len(name) <= 60 else f"{name[:40]}…{path.suffix[:10]}"
