"""Suites: named sets of prompts with what is measured on them. The embedded ones are read from assets/suites.

A suite is asked for as NAME, or as NAME=FILE or NAME=hub:OWNER/DATASET[#SPLIT] to ask other prompts. The suites of public
data sets (patchlab/evaluation/datasets.py) have no prompts of their own and always need a source, as does `prompts`, which
measures any prompts at all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from patchlab.errors import InputError, NotFoundError
from patchlab.evaluation.datasets import likeliest, public_prompts
from patchlab.records import Message, Prompt
from patchlab.rows import Row, Rows
from patchlab.rows.conversations import history_turns
from patchlab.storage import ASSETS

FOLDER = ASSETS / "suites"
Check = Callable[[Prompt], object]  # raises InputError for a prompt that cannot be asked


@dataclass(frozen=True, slots=True)
class Suite:
    """Prompts of one kind and what is measured on the replies.

    `files` are under assets/suites/pocket; `metrics` are names of METRICS or of those that need a model's own
    probabilities; `apart` says whether figures are given by the domain of the prompts too, or only so. `source` replaces
    the files.
    """

    name: str
    about: str
    files: tuple[str, ...]
    metrics: tuple[str, ...]
    samples: int = 1  # a prompt, where one draw says little
    apart: Literal["no", "too", "only"] = "no"
    source: str = ""


SUITES = {suite.name: suite for suite in (
    Suite("toxicity", "angry comments to continue", ("toxicity",), ("toxic_rate", "expected_max_toxicity"), samples=2),
    Suite("bias", "occupation sentences whose pronoun comes next", ("bias",),
          ("stereotype_rate", "gendered_word_rate", "pronoun_gap", "pronoun_balance"), samples=4),
    Suite("refusal", "harmful requests, which a safe model refuses", ("harmful",), ("refusal_rate",)),
    Suite("overrefusal", "harmless requests, plain and alarming to the ear, which a model should answer",
          ("benign", "lookalike"), ("refusal_rate",), apart="too"),
    Suite("fluency", "harmless requests, for how natural the replies read", ("benign",),
          ("log_loss", "repetition", "distinct_1", "distinct_2", "distinct_3")),
    Suite("drift", "harmless requests, for how far the patch moves the base on them; the requests of the patch's domain, "
          "for how far it is from the reference", ("benign",), ("kl_to_base", "kl_to_reference")),
    Suite("helpfulness", "harmless requests, for whether they are still answered on their topic", ("benign",),
          ("helpful_rate",)),
)}
PUBLIC = {suite.name: suite for suite in (
    Suite("realtoxicityprompts", "sentence beginnings from the web (Gehman et al. 2020)", (),
          SUITES["toxicity"].metrics, samples=2, apart="too"),
    Suite("xstest", "requests that only sound unsafe, beside unsafe ones (Röttger et al. 2024)", (), ("refusal_rate",),
          apart="only"),
    Suite("harmbench", "harmful behaviours, without those on copyright (Mazeika et al. 2024)", (), ("refusal_rate",)),
    Suite("advbench", "harmful instructions (Zou et al. 2023)", (), ("refusal_rate",)),
    Suite("strongreject", "forbidden requests (Souly et al. 2024)", (), ("refusal_rate",)),
    Suite("jailbreakbench", "misuse behaviours (Chao et al. 2024)", (), ("refusal_rate",)),
    Suite("simplesafetytests", "requests that a model should refuse (Vidgen et al. 2023)", (), ("refusal_rate",)),
    Suite("beavertails", "requests of 14 kinds of harm (Ji et al. 2023)", (), ("refusal_rate",)),
    Suite("winogender", "occupation sentences up to their pronoun (Rudinger et al. 2018)", (), SUITES["bias"].metrics,
          samples=4),
    Suite("bold", "sentence beginnings about actors and actresses (Dhamala et al. 2021)", (),
          ("gendered_word_rate", "toxic_rate"), apart="too"),
)}

OWN = {"prompts": Suite("prompts", "prompts of your own, of any kind", (), ("toxic_rate", "refusal_rate"))}


@dataclass(frozen=True, slots=True)
class Headline:
    """The metric that a suite is judged by, and its best value; distances of distributions are not shares."""

    metric: str
    best: float
    share: bool = True


HEADLINES = {
    "toxicity": Headline("toxic_rate", 0.0), "bias": Headline("stereotype_rate", 0.5),
    "refusal": Headline("refusal_rate", 1.0), "overrefusal": Headline("refusal_rate", 0.0),
    "helpfulness": Headline("helpful_rate", 1.0), "drift": Headline("kl_to_base", 0.0, share=False)}
DOMAINS = ("toxicity", "bias", "refusal")  # of patches, each the name of the suite of its prompts


def suite(asked: str) -> Suite:
    """The suite of a name, or of NAME=SOURCE. Raises NotFoundError with near names, InputError for a missing source."""
    name, equals, source = (part.strip() for part in asked.partition("="))
    known = SUITES | PUBLIC | OWN
    if name not in known:
        raise NotFoundError.of("suite", name, known)
    if (equals or name not in SUITES) and not source:
        raise InputError(f"suite {name!r} without its prompts", expected=f"{name}=FILE.jsonl or {name}=hub:OWNER/DATASET",
                         do="name a file or a data set of the Hub")
    return replace(known[name], source=source)


def load_prompts(asked: str | Suite, *, n: int, folder: Path | None = None, strict: bool = False,
                 notes: list[str] | None = None, check: Check | None = None) -> list[Prompt]:
    """The first `n` prompts of each file of a suite, held out from patch training, that pass `check`, which raises InputError.

    From a public set whose rates are given apart, the first `n` of each domain: such files may be sorted by it.
    Rows that cannot be used are skipped and told in `notes`; with `strict` the first raises InputError, as does a file of none.
    """
    chosen = suite(asked) if isinstance(asked, str) else asked
    if chosen.name in PUBLIC:
        return _public(chosen, Rows(chosen.source, strict=strict, notes=notes), n, check)
    files = [chosen.source] if chosen.source else [(folder or FOLDER / "pocket") / f"{file}.jsonl" for file in chosen.files]
    found: list[Prompt] = []
    for file in files:
        found += islice(_own(Rows(file, strict=strict, notes=notes), check, public=bool(chosen.source)), n)
    return found


def read_prompts(source: str | Path | Rows, *, strict: bool = False, check: Check | None = None) -> list[Prompt]:
    """Prompts from rows with `text`, or the `messages` of a conversation, and optionally `system`, `history`, `kind`,
    `domain`, `id`.

    A row that cannot be used, or does not pass `check`, is skipped and counted as `Rows` does. Raises InputError for none, with
    `strict` for the first such row.
    """
    return list(_own(source if isinstance(source, Rows) else Rows(source, strict=strict), check))


def _own(rows: Rows, check: Check | None, *, public: bool = False) -> Generator[Prompt, None, None]:
    """Prompts in PatchLab's own format, one by one; of a file for a suite of `public` data sets it is told that it is one."""
    def read(row: Row) -> Prompt:
        prompt = own_prompt(row)
        if check:
            check(prompt)
        if public and not rows.used and (name := likeliest(row)):
            rows.tell(f"{rows.name} has the columns of {name}: ask for {name}={rows.source} to have it read as published")
        return prompt

    return rows.each(read)


def own_prompt(row: Row) -> Prompt:
    """The prompt of a row in PatchLab's own format. Raises InputError for a row without one text or one conversation."""
    text, messages = row.get("text"), row.get("messages")
    if text is None:
        asked = row.get("prompt")
        text, messages = (None, asked) if isinstance(asked, list) and messages is None else (asked, messages)
    kind: Any = row.get("kind") or "chat"
    name = "" if row.get("id") is None else str(row["id"])
    domain, system = (_column(row, column) for column in ("domain", "system"))
    earlier = history_turns(row.get("history"))
    if messages is None or messages == "":
        if not isinstance(text, str) or not text.strip() or kind not in ("chat", "continue"):
            raise InputError(f"text {str(text)[:40]!r} and kind {str(kind)[:40]!r}",
                             expected="a text and kind 'chat' or 'continue'", do="fix that row")
        if text.lstrip().startswith(('[{"role":', "[{'role':")):
            raise InputError("messages written as text", expected="a list", do="give the rows as JSON Lines or Parquet")
        return Prompt(text, kind, domain, name, system, tuple(Message(*turn) for turn in earlier))  # type: ignore[arg-type]
    if not isinstance(messages, list) or text is not None or system or earlier or kind != "chat":
        raise InputError(f"messages {str(messages)[:40]!r}, text {str(text)[:40]!r} and kind {str(kind)[:40]!r}",
                         expected="a list of messages without a text, system text or history, of kind 'chat'", do="fix that row")
    return Prompt.of(messages, domain=domain, id=name)


def _column(row: Row, name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} {str(value)[:40]!r}", expected="a text", do="fix that row")
    return value or ""


def _public(chosen: Suite, rows: Rows, n: int, check: Check | None) -> list[Prompt]:
    """The prompts of a public data set, each text once, the first `n` that pass `check` of each group."""
    groups: dict[str, dict[str, Prompt]] = {}

    def read(row: Row) -> None:
        for prompt in public_prompts(chosen.name, row):
            group = groups.setdefault("" if chosen.apart == "no" else prompt.domain, {})
            if len(group) < n and prompt.text not in group:
                if check:
                    check(prompt)
                group[prompt.text] = prompt
        if not rows.used and (name := likeliest(row)) not in (None, chosen.name):
            rows.tell(f"{rows.name} has the columns of {name}, and is read as {chosen.name}")

    for _ in rows.each(read):
        pass
    found = [prompt for group in groups.values() for prompt in group.values()]
    if not found:
        raise InputError(f"{rows.name} holds no prompt of {chosen.name}", expected="at least one", do="give a file with prompts")
    return found
