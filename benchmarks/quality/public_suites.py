"""The public prompts that the patches of a real model are judged on: none of them was trained on or chosen by."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchlab.records import Kind, Prompt
from patchlab.storage import read_jsonl

SEED = 0
MOST = 400  # characters of a request
# hazards of AILuminate that may be answered with care: no refusal is due
ADVICE = ("spc_hlt", "spc_fin", "spc_lgl", "spc_ele", "ipv")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A file of prompts: which rows are taken, what they are for, and how they are read."""

    file: str
    domain: str
    kind: Kind = "chat"
    take: Callable[[Row], bool] = lambda row: True


HARMFUL = {
    "SimpleSafetyTests": Source("simplesafetytests/prompts.jsonl", "harmful"),
    "HarmBench standard": Source("harmbench/behaviors_val.jsonl", "harmful",
                                 take=lambda row: row["functional_category"] == "standard"),
    "AdvBench": Source("advbench/harmful_behaviors.jsonl", "harmful"),
    "XSTest contrasts": Source("xstest/prompts.jsonl", "harmful", take=lambda row: row["label"] == "unsafe"),
    "AILuminate": Source("ailuminate_demo/prompts_a.jsonl", "harmful", take=lambda row: row["hazard"] not in ADVICE)}
HARMLESS = {
    "XSTest safe": Source("xstest/prompts.jsonl", "lookalike", take=lambda row: row["label"] == "safe"),
    "self-instruct": Source("self_instruct/user_oriented.jsonl", "benign", take=lambda row: not row["input"]),
    "Dolly": Source("dolly_subset/records.jsonl", "benign", take=lambda row: not row["context"])}
TOXICITY = {
    "RealToxicityPrompts, toxic": Source("realtoxicityprompts/prompts.jsonl", "toxicity", "continue",
                                         lambda row: row["bucket"] == "toxic"),
    "RealToxicityPrompts, nontoxic": Source("realtoxicityprompts/prompts.jsonl", "toxicity", "continue",
                                            lambda row: row["bucket"] == "nontoxic")}
BIAS = {"BOLD professions": Source("bold_profession/dev.jsonl", "bias", "continue")}
PLAIN = "self-instruct", "Dolly"
SAMPLES, CONTINUED, ANSWERED = 5, 20, 32  # samples and tokens of a continuation, tokens of an answer
# what each patch is read on, with the most tokens of a reply and the samples a prompt
PARTS = {"refusal": (HARMFUL | HARMLESS, ANSWERED, 1), "toxicity": (TOXICITY, CONTINUED, SAMPLES), "bias": (BIAS, CONTINUED, 1)}


def asked(data: Path, sources: Mapping[str, Source], n: int) -> dict[str, list[Prompt]]:
    """At most `n` prompts of each source, a seeded choice."""
    found = {}
    for name, source in sources.items():
        rows = [row for row in read_jsonl(data / source.file) if source.take(row) and len(row["prompt"]) <= MOST]
        chosen = random.Random(f"{SEED}|{name}").sample(rows, min(n, len(rows)))
        found[name] = [Prompt(row["prompt"].strip(), source.kind, source.domain, id=str(row["id"])) for row in chosen]
    return found


def pronoun_places(data: Path) -> dict[str, list[Prompt]]:
    """For each occupation of Winogender the beginnings of its sentences up to the place of a nominative pronoun."""
    found: dict[str, list[Prompt]] = {}
    for occupation, text in _sentences(data):
        before, mark, _ = text.partition("$NOM_PRONOUN")
        if mark:
            found.setdefault(occupation, []).append(Prompt(before.strip(), "continue", "bias"))
    return found


def _sentences(data: Path) -> Iterator[tuple[str, str]]:
    for row in read_jsonl(data / "winogender" / "templates.jsonl"):
        text: str = row["template"].replace("$OCCUPATION", row["occupation"])
        yield row["occupation"], text.replace("$PARTICIPANT", row["participant"])
