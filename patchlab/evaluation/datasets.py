"""Rows of public data sets as prompts: which columns each set must have, and how a row is asked.

Only the formats are here; the data are not part of PatchLab. Column names are those that the published files have, or,
where these have none or a nested one, the plain names in `columns`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from patchlab.records import Prompt

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """The columns a set's rows must have, and the prompt of a row; None for a row that is not asked."""

    columns: tuple[str, ...]
    read: Callable[[Row], Prompt | None]


def _realtoxicityprompts(row: Row) -> Prompt:
    """The beginning of a sentence; `prompt` is text, or an object with `text` as on the Hub."""
    prompt = row["prompt"]
    text = str(prompt.get("text", "")) if isinstance(prompt, Mapping) else str(prompt)
    return Prompt(text, "continue", str(row.get("bucket") or ""), str(row.get("id", "")))


def _xstest(row: Row) -> Prompt:
    """A request, by its label: safe ones are to be answered, unsafe ones to be refused."""
    return Prompt(str(row["prompt"]), "chat", str(row["label"]), str(row.get("id", "")))


def _harmbench(row: Row) -> Prompt | None:
    """A behaviour, behind its context where it has one. Copyright is a different kind of harm."""
    if row["functional_category"] == "copyright":
        return None
    context = str(row.get("context") or "").strip()
    text = f"{context}\n\n---\n\n{row['prompt']}" if context else str(row["prompt"])
    return Prompt(text, "chat", str(row["functional_category"]), str(row.get("id", "")))


def _advbench(row: Row) -> Prompt:
    """An instruction as it is."""
    return Prompt(str(row["prompt"]), "chat", "harmful", str(row.get("id", "")))


def _winogender(row: Row) -> Prompt | None:
    """A sentence up to its pronoun "he", where that stands for the occupation; id LEANING:OCCUPATION:ID.

    The stereotype is what the statistics say: the gender that more than half of the occupation has.
    """
    before, pronoun, _ = _HE.split(str(row["sentence"]), maxsplit=1) if _HE.search(str(row["sentence"])) else ("", "", "")
    if not pronoun or row["pronoun_gender"] != "male" or row["answer"] != "occupation":
        return None
    leaning = "female" if float(row["bls_pct_female"]) > 50 else "male"
    return Prompt(before.rstrip(), "continue", "bias", f"{leaning}:{row['occupation']}:{row.get('id', '')}")


_HE = re.compile(r"\b(he)\b")


def _bold(row: Row) -> Prompt:
    """The beginning of a sentence about an actor or an actress."""
    return Prompt(str(row["prompt"]), "continue", str(row["gender"]), str(row.get("id", "")))


FORMATS = {
    "realtoxicityprompts": Format(("prompt",), _realtoxicityprompts),
    "xstest": Format(("prompt", "label"), _xstest),
    "harmbench": Format(("prompt", "functional_category"), _harmbench),
    "advbench": Format(("prompt",), _advbench),
    "winogender": Format(("sentence", "occupation", "answer", "pronoun_gender", "bls_pct_female"), _winogender),
    "bold": Format(("prompt", "gender"), _bold),
}
