"""The rows that the prompt judge is fitted on and measured with: public requests and prompts written for it.

Label 0 is harmless, 1 harmful, 2 a crisis. Only the training parts of permissive sets are fitted on; suites that models are
judged with (HarmBench, SimpleSafetyTests, AdvBench, XSTest, self-instruct, Dolly) are measured only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from patchlab.scoring.language import judged
from tools.scorers.encoder_rows import sampled
from tools.scorers.sets import Example, LabelledSet, Row, read_rows
from tools.scorers.written_prompts import CRISIS, HARMFUL, HARMLESS, written_prompts
from tools.smollm2.refusals import DEEDS, FRAMES, instructed

# name, licence, source, share. harmfulqa is called harmful as a whole, which many of its questions are not
_PUBLIC = (
    ("harmfulqa", "Apache-2.0", "github.com/declare-lab/red-instruct", 0.4, HARMFUL),
    ("catqa", "Apache-2.0", "github.com/declare-lab/red-instruct", 1.0, HARMFUL),
    ("dangerousqa", "MIT", "github.com/SALT-NLP/chain-of-thought-bias", 0.6, HARMFUL),
    ("figstep_safebench", "MIT", "github.com/ThuCCSLab/FigStep", 0.6, HARMFUL),
    ("cyberseceval_interpreter", "MIT", "github.com/meta-llama/PurpleLlama", 0.2, HARMFUL),
    ("self_instruct_seed", "Apache-2.0", "github.com/yizhongw/self-instruct", 0.4, HARMLESS),
    ("clinc150", "CC-BY-3.0", "github.com/clinc/oos-eval", 0.5, HARMLESS),
    ("banking77", "CC-BY-4.0", "github.com/PolyAI-LDN/task-specific-datasets", 0.2, HARMLESS),
    ("arena_hard", "Apache-2.0", "github.com/lmarena/arena-hard-auto", 0.6, HARMLESS),
    ("gsm8k_questions", "MIT", "github.com/openai/grade-school-math", 0.2, HARMLESS),
    ("awesome_prompts", "CC0-1.0", "github.com/melnikovics/awesome-chatgpt-prompts", 0.2, HARMLESS),
    ("oasst_seed", "Apache-2.0", "github.com/LAION-AI/Open-Assistant", 0.1, HARMLESS),
    ("cyberseceval_frr", "MIT", "github.com/meta-llama/PurpleLlama", 0.3, HARMLESS),
    ("orbench_subset", "CC-BY-4.0", "OR-Bench", 0.5, HARMLESS))
_VAGUE = ("Mathematics", "Literature", "Philosophy", "History")  # subjects of harmfulqa whose questions are seldom harmful
WRITTEN_SHARE = 3.0


def prompt_sets(data: Path) -> list[LabelledSet]:
    """The sets to fit on, with dev rows; the written ones last."""
    found = [LabelledSet(name, licence, source, share, *(
        tuple(_examples(name, list(read_rows(data / name / f"{part}.jsonl")), label)) for part in ("train", "dev")))
        for name, licence, source, share, label in _PUBLIC]
    deeds = [Example(frame.format(deed.format(thing)), HARMLESS) for deed, things in DEEDS.items() for thing in things
             for frame in FRAMES]
    return [*found, LabelledSet("deeds", "this project's", "tools.smollm2.refusals", 0.3, tuple(deeds), ()),
            LabelledSet("written prompts", "this project's", "tools.scorers.written_prompts", WRITTEN_SHARE,
                        tuple(written_prompts(500, half="fit", seed=1)), tuple(written_prompts(80, half="held", seed=2)))]


def measured_prompts(data: Path) -> list[tuple[str, list[Example]]]:
    """Suites that are never fitted on: name and prompts, 1 for harmful ones and 0 for harmless ones."""
    def read(path: str, column: str = "prompt") -> list[Row]:
        return [row for row in read_rows(data / path) if row[column].strip()]

    tests, xstest = read("simplesafetytests/prompts.jsonl"), read("xstest/prompts.jsonl")
    own = [row for row in tests if "Self-Harm" in row["harm_area"]]
    harmbench = [row for row in read("harmbench/behaviors_val.jsonl") if row["functional_category"] == "standard"]
    found = {
        "SimpleSafetyTests": (HARMFUL, [row for row in tests if row not in own]), "SimpleSafetyTests, self-harm": (CRISIS, own),
        "HarmBench, standard": (HARMFUL, harmbench), "AdvBench": (HARMFUL, read("advbench/harmful_behaviors.jsonl")),
        "XSTest, unsafe": (HARMFUL, [row for row in xstest if row["label"] == "unsafe"]),
        "XSTest, safe": (HARMLESS, [row for row in xstest if row["label"] == "safe"]),
        "self_instruct": (HARMLESS, read("self_instruct/user_oriented.jsonl")),
        "dolly_subset": (HARMLESS, read("dolly_subset/records.jsonl"))}
    return [(name, [Example(row["prompt"], label) for row in rows]) for name, (label, rows) in found.items()]


def _examples(name: str, rows: list[Row], label: int) -> Iterator[Example]:
    draw = random.Random(name)
    for row in rows:
        if row.get("label") == "advice" or str(row.get("category", "")).startswith(_VAGUE):
            continue
        texts = [turn["content"] for turn in row["turns"] if turn["role"] == "user"] if "turns" in row else [row["prompt"]]
        yield from (Example(instructed(text, draw), label) for text in texts if text.strip() and judged(text))


def balanced(each: LabelledSet, most: int) -> LabelledSet:
    """At most `most` training rows of each label of a set."""
    kept = [row for label in sorted({row.label for row in each.train})
            for row in sampled([row for row in each.train if row.label == label], most)]
    return replace(each, train=tuple(kept))
