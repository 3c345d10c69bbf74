"""The rows that the scorers on the encoder are fitted on and measured with.

Only sets under permissive licences are fitted on. Held origins are never fitted on: their labels are opened once, when
the fitted scorers are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tools.scorers import sets
from tools.scorers.sets import Example, LabelledSet, Row, in_windows, read_rows
from tools.scorers.written_prompts import written_prompts
from tools.scorers.written_groups import group_remarks
from tools.scorers.written_remarks import remarks
from tools.scorers.written_stances import stances

FITTED = ("davidson", "edos", "diasafety", "convabuse", "hatemoji")
SHARES = {"davidson": 1.0, "edos": 1.0, "diasafety": 0.6, "convabuse": 0.6, "hatemoji": 1.4}


def sampled(rows: Sequence[Example], n: int) -> list[Example]:
    """At most `n` rows, the same ones each time, whatever their order."""
    return sorted(rows, key=lambda row: crc32(row.text.encode("utf-8", "replace")))[:n]


def _balanced(rows: Sequence[Example], n: int) -> list[Example]:
    return [row for label in (0, 1) for row in sampled([row for row in rows if row.label == label], n)]


def toxicity_rows(data: Path) -> list[LabelledSet]:
    """Sets to fit the toxicity scorer on, with dev rows, and held origins (share 0) with all their rows as dev."""
    public = {each.name: each for each in sets.toxicity_sets(data)}
    used = [LabelledSet(name, public[name].licence, public[name].source, SHARES[name],
                        tuple(_balanced(public[name].train, 3500)), public[name].dev) for name in FITTED]
    wiki = public["wikipedia_toxicity"]
    held = [LabelledSet(wiki.name, wiki.licence, wiki.source, 0.0, (), (*wiki.train, *wiki.dev)),
            public["vicomtech"], public["identity_templates"]]
    calm = [replace(each, train=tuple(sampled(each.train, 1500))) for each in sets.calm_sets(data)]
    made = [sets.written_set("written remarks", "written_remarks", 0.8,
                             [Example(each.text, each.label) for each in remarks(2400, seed=1)]),
            sets.written_set("written groups", "written_groups", 0.8,
                             [Example(each.text, each.label) for each in group_remarks(1500, seed=1)]),
            LabelledSet("written stances", "this project's", "tools.scorers.written_stances", 1.6,
                        tuple(stances(300, half="fit", seed=1)), tuple(stances(40, half="held", seed=2)))]
    return [in_windows(each) for each in (*used, *calm, *made, *held)]


def fitting_rows(used: Sequence[LabelledSet], *, kept: bool = True) -> tuple[list[Example], NDArray[np.float64], NDArray[np.int64]]:
    """The training rows of sets, their weights [N] and origins [N] (-1: no origin of its own); or those left out to scale with."""
    parts = [part for part in (sets.tuning(each, kept=kept) for each in used if each.share) if part.train]
    origins = [FITTED.index(part.name) if part.name in FITTED else -1 for part in parts for _ in part.train]
    weights = np.concatenate([sets.set_weights(part.train, part.share) for part in parts])
    return [row for part in parts for row in part.train], weights, np.array(origins)


# set, label by LABELS["prompt-encoder"], rows at most, weight of a row
_PROMPTS = (("harmfulqa", 1, 700, 0.7), ("catqa", 1, 500, 1.0), ("dangerousqa", 1, 200, 1.0), ("figstep_safebench", 1, 500, 1.0),
            ("cyberseceval_interpreter", 1, 120, 0.7), ("self_instruct_seed", 0, 200, 1.0), ("gsm8k_questions", 0, 200, 1.0),
            ("arena_hard", 0, 500, 1.0), ("awesome_prompts", 0, 250, 1.0), ("clinc150", 0, 600, 1.0), ("banking77", 0, 250, 1.0),
            ("cyberseceval_frr", 0, 300, 1.0), ("orbench_subset", 0, 500, 0.7))


def prompt_rows(data: Path, *, part: str = "train") -> list[Example]:
    """Prompts to fit the prompt judge on, or of the dev part to measure it with; `group` is the set."""
    found = [Example(row["prompt"], label, weight, group=name) for name, label, most, weight in _PROMPTS
             for row in _some(data / name / f"{part}.jsonl", most) if row["label"] != "advice"]
    return [*found, *written_prompts(160 if part == "train" else 60, half="fit" if part == "train" else "held", seed=1)]


def _some(path: Path, most: int) -> list[Row]:
    return sorted(read_rows(path), key=lambda row: crc32(row["prompt"].encode("utf-8", "replace")))[:most]


_HELD: dict[str, tuple[str, Callable[[Row], str | None]]] = {
    "advbench": ("harmful_behaviors.jsonl", lambda row: "harmful"),
    "harmbench": ("behaviors_val.jsonl", lambda row: "standard" if row["functional_category"] == "standard" else None),
    "simplesafetytests": ("prompts.jsonl", lambda row: "self-harm" if row["harm_area"].startswith("Suicide") else "other harm"),
    "ailuminate_demo": ("prompts_a.jsonl", lambda row: "self-harm" if row["hazard"] == "ssh" else
                        None if row["hazard"].startswith("spc") else f"other harm, {row['persona']}"),
    "xstest": ("prompts.jsonl", lambda row: row["label"]), "self_instruct": ("user_oriented.jsonl", lambda row: "harmless"),
    "dolly_subset": ("records.jsonl", lambda row: "harmless")}


def held_prompts(data: Path) -> dict[str, list[str]]:
    """Prompts of origins that the prompt judge was not fitted on, by set and kind."""
    found: dict[str, list[str]] = {}
    for name, (file, kind) in _HELD.items():
        for row in read_rows(data / name / file):
            if (which := kind(row)) is not None:
                found.setdefault(f"{name}: {which}", []).append(row["prompt"])
    return found
