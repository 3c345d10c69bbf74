"""The public sets the embedded scorers are fitted on and measured with, each with its licence and its care.

A set is read into examples with weights; what a label means differs from set to set, so sets are weighted against each
other by `share` and never judged together. Sets under share-alike licences are measured only.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from patchlab.errors import InputError
from patchlab.scoring.language import judged
from patchlab.scoring.spelling import undisguised
from patchlab.scoring.windows import windows
from patchlab.storage import read_jsonl

Task = Literal["toxicity", "refusal"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its label; `group` ties together examples that must not lie on both sides of a split."""

    text: str
    label: int
    weight: float = 1.0
    prompt: str | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """One source. `share` is its weight in training, all its rows together; 0 means measured only."""

    name: str
    licence: str
    source: str
    share: float
    train: tuple[Example, ...]
    dev: tuple[Example, ...]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSON Lines file, gzip-compressed or not."""
    if path.is_file() and path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines)
    else:
        yield from read_jsonl(path)


def _template(row: Row) -> Example:
    return Example(row["text"], row["label"], group=row["identity_term"] or "")


def _davidson(row: Row) -> Example:
    # the crowd called ordinary use of a few words offensive; only votes near unanimity speak with full weight
    votes = [int(row[f"votes_{name}"]) for name in ("hate", "offensive", "neither")]
    toxic = row["label"] == 1
    agreed = (votes[0] + votes[1] if toxic else votes[2]) / max(sum(votes), 1)
    return Example(row["text"], int(toxic), (agreed - 0.4) * (1.5 if row["label_name"] == "hate_speech" else 1.0))


def _plain(row: Row) -> Example:
    return Example(row["text"], row["label"])


def _convabuse(row: Row) -> Example | None:
    tie = 2 * row["n_abusive"] == row["n_annotators"]
    return None if tie else Example(row["user"], row["label"])


def _diasafety(row: Row) -> Example | None:
    # the other unsafe categories are unsafe by what they answer to, and their text alone is not toxic
    kept = row["label"] == 0 or row["category"] == "Offending User"
    return Example(row["response"], row["label"]) if kept else None


_TOXICITY: tuple[tuple[str, str, str, float, str, str, Callable[[Row], Example | None]], ...] = (
    ("davidson", "MIT", "github.com/t-davidson/hate-speech-and-offensive-language", 1.0, "train.jsonl.gz",
     "dev.jsonl", _davidson),
    ("edos", "CC0-1.0", "github.com/rewire-online/edos", 0.8, "train.jsonl.gz", "dev.jsonl", _plain),
    ("diasafety", "Apache-2.0", "github.com/thu-coai/DiaSafety", 0.9, "train.jsonl.gz", "dev.jsonl", _diasafety),
    ("wikipedia_toxicity", "CC-BY-4.0", "github.com/conversationai/unintended-ml-bias-analysis", 0.5,
     "train.jsonl", "dev.jsonl", _plain),
    ("convabuse", "CC-BY-4.0", "github.com/amandacurry/convabuse", 0.5, "train.jsonl", "dev.jsonl", _convabuse),
    ("hatemoji", "CC-BY-4.0", "github.com/HannahKirk/Hatemoji", 0.3, "train.jsonl", "dev.jsonl", _plain),
    ("vicomtech", "CC-BY-SA-3.0-ES", "github.com/Vicomtech/hate-speech-dataset", 0.0, "", "dev.jsonl", _plain),
    ("identity_templates", "CC-BY-4.0", "github.com/conversationai/unintended-ml-bias-analysis", 0.0, "",
     "templates.jsonl", _template),
)


def toxicity_sets(data: Path) -> list[LabelledSet]:
    """The toxicity sets under `data`. Raises InputError where one is missing."""
    def read(name: str, file: str, make: Callable[[Row], Example | None]) -> tuple[Example, ...]:
        made = (make(row) for row in read_rows(data / name / file)) if file else ()
        return tuple(each for each in made if each is not None)

    return [LabelledSet(name, licence, source, share, read(name, train, make), read(name, dev, make))
            for name, licence, source, share, train, dev, make in _TOXICITY]


def calm_sets(data: Path) -> list[LabelledSet]:
    """Ordinary text without contempt: everything is labelled 0. Shares of rows are held back for measuring."""
    winogender = [Example(row["sentence"], 0, group=row["occupation"])
                  for row in read_rows(data / "winogender/sentences.jsonl")]
    answers = [Example(row["reference_output"][:600], 0) for row in read_rows(data / "self_instruct/user_oriented.jsonl")]
    asked = [Example(row["prompt"], 0) for row in read_rows(data / "self_instruct/user_oriented.jsonl")]
    # share-alike: measured only
    dolly = [Example(row["response"][:600], 0) for row in read_rows(data / "dolly_subset/records.jsonl")]
    bold = [Example(row["wikipedia_sentence"], 0) for row in read_rows(data / "bold_gender/prompts.jsonl")]
    return [_divided("winogender", "MIT", "github.com/rudinger/winogender-schemas", 0.15, winogender),
            _divided("self_instruct", "Apache-2.0", "github.com/yizhongw/self-instruct", 0.3, answers + asked),
            *(_asked(data, *each) for each in _CALM),
            LabelledSet("dolly_subset", "CC-BY-SA-3.0", "databricks-dolly-15k", 0.0, (), tuple(dolly)),
            LabelledSet("bold_gender", "CC-BY-SA-4.0", "github.com/amazon-science/bold", 0.0, (), tuple(bold))]


_CALM: tuple[tuple[str, str, str, float, Callable[[Row], list[str]]], ...] = (
    ("gsm8k_questions", "MIT", "github.com/openai/grade-school-math", 0.2, lambda row: [row["prompt"]]),
    ("arena_hard", "Apache-2.0", "github.com/lmarena/arena-hard-auto", 0.2, lambda row: [row["prompt"]]),
    ("awesome_prompts", "CC0-1.0", "github.com/melnikovics/awesome-chatgpt-prompts", 0.15, lambda row: [row["prompt"]]),
    ("clinc150", "CC-BY-3.0", "github.com/clinc/oos-eval", 0.15, lambda row: [row["prompt"]]),
    ("banking77", "CC-BY-4.0", "github.com/PolyAI-LDN/task-specific-datasets", 0.1, lambda row: [row["prompt"]]),
    ("self_dialogue", "BSD-3-Clause", "github.com/jfainberg/self_dialogue_corpus", 0.3,
     lambda row: [turn["content"] for turn in row["turns"]]),
    ("taskmaster4", "CC-BY-4.0", "github.com/google-research-datasets/Taskmaster", 0.1,
     lambda row: [turn["content"] for turn in row["turns"]]),
    ("winogenerated", "CC-BY-4.0", "github.com/anthropics/evals", 0.2,
     lambda row: [row["sentence_with_blank"].replace("_", "their")]),
)


def _asked(data: Path, name: str, licence: str, source: str, share: float, texts: Callable[[Row], list[str]]) -> LabelledSet:
    """A set of requests or chats, all calm."""
    train, dev = (tuple(Example(text, 0) for row in read_rows(data / name / f"{part}.jsonl") for text in texts(row))
                  for part in ("train", "dev"))
    return LabelledSet(name, licence, source, share, train, dev)


def xstest(data: Path) -> list[tuple[Example, str, str]]:
    """The human-labelled replies of XSTest: example (1 for both kinds of refusal), human label, family of prompts."""
    # a partial refusal is worth half a refusal: the annotators themselves waver there
    return [(Example(row["completion"], int(row["label"] != "compliance"), 0.5 if "partial" in row["label"] else 1.0,
                     row["prompt"], row["prompt"]), row["label"], row["type"].removeprefix("contrast_"))
            for row in read_rows(data / "xstest/completions_mistral.jsonl")]


def answered_sets(data: Path) -> list[LabelledSet]:
    """Text that answers: reference outputs, first words of going along with harm, and small talk. All labelled 0."""
    outputs = [Example(row["reference_output"][:800], 0, prompt=row["prompt"])
               for row in read_rows(data / "self_instruct/user_oriented.jsonl") if row["reference_output"].strip()]
    targets = [Example(row["target"], 0, prompt=row["prompt"])
               for row in read_rows(data / "advbench/harmful_behaviors.jsonl")]
    talk = [Example(row["response"], 0, prompt=row["context"]) for row in read_rows(data / "diasafety/train.jsonl.gz")
            if row["label"] == 0 and row["response"].strip()]
    return [_divided("self_instruct", "Apache-2.0", "github.com/yizhongw/self-instruct", 0.1, outputs),
            _divided("advbench", "MIT", "github.com/llm-attacks/llm-attacks", 0.08, targets),
            _divided("diasafety", "Apache-2.0", "github.com/thu-coai/DiaSafety", 0.06, talk[::3])]


def held_back(example: Example, one_in: int = 10) -> bool:
    """Whether a row is held back from fitting: by a hash of its group or text, so it stays so when others are added."""
    return crc32(f"held|{example.group or example.text}".encode("utf-8", "replace")) % one_in == 0


def _divided(name: str, licence: str, source: str, share: float, rows: list[Example]) -> LabelledSet:
    return LabelledSet(name, licence, source, share, tuple(row for row in rows if not held_back(row)),
                       tuple(row for row in rows if held_back(row)))


def written_set(name: str, source: str, share: float, rows: list[Example]) -> LabelledSet:
    """Text written for this project, a tenth of it held back."""
    return _divided(name, "this project's", f"tools.scorers.{source}", share, rows)


def set_weights(rows: Sequence[Example], share: float) -> NDArray[np.float64]:
    """The weight of every row: both labels of a set count the same, and the set counts its share."""
    labels = np.array([row.label for row in rows])
    weights = np.array([row.weight for row in rows], float)
    present = set(labels)
    for label in present:
        weights[labels == label] *= share / len(present) / weights[labels == label].sum()
    return weights


def tuning(each: LabelledSet, *, kept: bool) -> LabelledSet:
    """The training rows to fit on (`kept`), or the fifteenth left out to scale and choose a threshold with."""
    return replace(each, train=tuple(row for row in each.train if held_back(row, 15) != kept))


def extra_set(path: Path | None, task: Task, share: float) -> LabelledSet | None:
    """The rows of one task in a file of {"text", "label", "task", "prompt"?}; None where there are none.

    Raises InputError for a row without text, or with a label other than 0 and 1.
    """
    rows = []
    for number, row in enumerate(read_jsonl(path) if path else (), 1):
        known = row.get("task") in ("toxicity", "refusal") and row.get("label") in (0, 1)
        if not known or not isinstance(row.get("text"), str):
            raise InputError(f"{path} row {number} is {str(row)[:80]}", do="fix that row",
                             expected='{"text": str, "label": 0 or 1, "task": "toxicity" or "refusal"}')
        prompt = row.get("prompt")
        if row["task"] == task:
            rows.append(Example(row["text"], int(row["label"]), prompt=prompt if isinstance(prompt, str) else None))
    return _divided("made world", "this project's", "tools.pocket", share, rows) if rows else None


def in_windows(each: LabelledSet) -> LabelledSet:
    """A set as scorers read it: disguised words spelled out, and calm training rows window by window, other languages left out.

    Which sentence of a toxic text is the toxic one is not known, so those stay whole.
    """
    train = []
    for row in each.train:
        text = undisguised(row.text)
        parts = [text] if row.label else windows(text)
        train += [replace(row, text=part, weight=row.weight / len(parts), group=row.group or row.text)
                  for part in parts if judged(text)]
    return replace(each, train=tuple(train))
