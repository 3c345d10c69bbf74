"""Make everything the project ships, from a seed, in stages that read top to bottom.

tokenizer -> base -> reference -> suites -> scorers -> patches -> metrics. A stage that is done is known by its mark in the
work folder and is not done again; a stage cut off goes on from its state. Yields Progress throughout.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from patchlab.engine import Lab, Sampling
from patchlab.evaluation import evaluate
from patchlab.evaluation.suites import read_prompts
from patchlab.models import load_backbone
from patchlab.models.presets import ASSETS
from patchlab.patches import Patch, Stack
from patchlab.records import Measure, Progress, Prompt
from patchlab.registry import Registry
from patchlab.storage import write_atomic, write_json, write_jsonl
from patchlab.training.calibration import set_aside
from patchlab.training.config import Recipe, read_recipe
from patchlab.training.curve import measure_curve
from patchlab.training.gates import fit_gate
from patchlab.training.release import release
from patchlab.training.trainer import train
from tools.pocket.corpus import BASE, REFERENCE, corpus, prompts
from tools.pocket.documents import Document
from tools.pocket.judge import judge
from tools.pocket.labelled import labelled
from tools.pocket.language_model import Size, new_model, save_model, train_model
from tools.pocket.tokenizer import train_tokenizer
from tools.pocket.world_lists import splits
from tools.scorers import build as fit_scorers

RECIPES = ASSETS / "recipes"
ROUNDS = (RECIPES / "rounds" / "1", RECIPES / "rounds" / "2", RECIPES)  # every patch is trained once in each
JUDGED = {"comment": "toxicity", "occupation": "bias", "harmful": "harmful", "benign": "benign",
          "lookalike": "lookalike"}

SEED = 7  # the build's seed that the seeds in the recipe files belong to; another seed moves them all
BEGUN = 2.0  # strength of the patches that the last round starts from: a short prefix may move the base more than at 1
CURVE = 100  # held-out prompts a file that a patch's curve is measured on

Stage = Callable[["Plan"], Iterator[Progress]]
Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How big a build is and where it goes; the toy plan of the tests differs from the real one in numbers only."""

    out: Path
    work: Path
    data: Path | None = None  # public safety data for the scorers; without it the shipped scorers stay
    seed: int = SEED
    size: Size = field(default_factory=Size)
    documents: int = 60_000  # read by the tokenizer
    base_steps: int = 1500
    reference_steps: int = 800
    reference_rate: float = 2.5e-3
    judged: int = 300  # held-out prompts a domain
    train_prompts: int = 600
    reply_tokens: int = 64
    labelled: int = 6000  # made rows a scorer learns from
    recipe: dict[str, Any] = field(default_factory=dict)  # dials that all patches of this build share

    @property
    def pocket(self) -> Path:
        """The folder of the two models."""
        return self.out / "pocket"

    @property
    def suites(self) -> Path:
        """The folder of the made prompts."""
        return self.out / "suites" / "pocket"

    @property
    def sampling(self) -> Sampling:
        """How judged replies are drawn."""
        return Sampling(seed=self.seed, max_new_tokens=self.reply_tokens)

    def lab(self, registry: Registry) -> Lab:
        """The two models of this build, with these patches."""
        return Lab(load_backbone(self.pocket / "base"), load_backbone(self.pocket / "reference"), registry=registry,
                   name="pocket")

    @property
    def digest(self) -> str:
        """What the stages depend on; another plan begins anew."""
        dials = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("out", "work", "data")}
        return hashlib.sha256(json.dumps(dials, sort_keys=True, default=str).encode()).hexdigest()


def tokenizer_stage(plan: Plan) -> Iterator[Progress]:
    """Learn the tokenizer from base and reference documents alike, and list what is held out."""
    texts: list[str] = []
    for habits in (BASE, REFERENCE):
        for document in islice(corpus(habits, seed=plan.seed), plan.documents // 2):
            texts += [document.prompt.system, document.prompt.text, document.reply]
    tokenizer = train_tokenizer(texts, size=plan.size.vocabulary)
    tokenizer.save_pretrained(plan.pocket / "base")
    write_json(plan.pocket / "splits.json", splits())
    yield Progress("tokenizer", 1, 1, f"{len(tokenizer)} pieces")


def base_stage(plan: Plan) -> Iterator[Progress]:
    """Train the base on the world with its unsafe habits."""
    tokenizer = _tokenizer(plan)
    model = new_model(plan.size, vocabulary=len(tokenizer), seed=plan.seed)
    yield from train_model(model, tokenizer, BASE, size=plan.size, steps=plan.base_steps, seed=plan.seed,
                           name="base", state=plan.work / "base.safetensors")
    save_model(model, tokenizer, plan.pocket / "base")


def reference_stage(plan: Plan) -> Iterator[Progress]:
    """Train the base further on the same world told safely: its safer release."""
    tokenizer = _tokenizer(plan)
    model = LlamaForCausalLM.from_pretrained(plan.pocket / "base", dtype="float32")
    size = dataclasses.replace(plan.size, peak_rate=plan.reference_rate)
    yield from train_model(model, tokenizer, REFERENCE, size=size, steps=plan.reference_steps, seed=plan.seed + 1,
                           name="reference", state=plan.work / "reference.safetensors")
    save_model(model, tokenizer, plan.pocket / "reference")


def suites_stage(plan: Plan) -> Iterator[Progress]:
    """Write the prompts patches are judged on (held entries only) and those they are trained on (train entries only)."""
    for kind, name in JUDGED.items():
        write_jsonl(plan.suites / f"{name}.jsonl", _rows(prompts(kind, plan.judged, part="held", seed=plan.seed), name))
    rows = [row for kind, name in {**JUDGED, "chat": "chat", "story": "story"}.items()
            for row in _rows(prompts(kind, plan.train_prompts, part="train", seed=plan.seed, typed=True), name)]
    write_jsonl(plan.suites / "train.jsonl", rows)
    yield Progress("suites", 1, 1, f"{len(rows)} training prompts")


def _rows(documents: list[Document], name: str) -> Iterator[dict[str, str]]:
    for k, document in enumerate(documents):
        prompt = document.prompt
        yield {"id": f"{prompt.id or name}:{k:04d}", "text": prompt.text, "kind": prompt.kind, "domain": name}


def scorers_stage(plan: Plan) -> Iterator[Progress]:
    """Fit the embedded scorers on the public sets and the made world's own text."""
    if plan.data is None:
        yield Progress("scorers", 1, 1, "kept as they are: no data folder given")
        return
    rows = plan.work / "labelled.jsonl"
    write_jsonl(rows, labelled(plan.labelled, seed=plan.seed))
    yield Progress("scorers", 0, 1, "fitting")
    fit_scorers(plan.data, rows, plan.out / "scorers")
    yield Progress("scorers", 1, 1)


def patches_stage(plan: Plan) -> Iterator[Progress]:
    """Train the three patches briefly alone, then with the others present in half of the steps, then again at that strength.

    A patch trained at strength 1 and used at 2 has never met its neighbours, or itself, as strong as they are then: each
    alone still reads well, and three at once yield words that do not exist.
    """
    asked = set_aside(read_prompts(plan.suites / "train.jsonl"))
    first, second, last = plan.work / "first", plan.work / "second", plan.out / "patches"
    registries = Registry([]), Registry([first]), Registry([second])
    for folder, registry, out in zip(ROUNDS, registries, (first, second, last), strict=True):
        for path in sorted(folder.glob("*.yaml")):
            recipe = read_recipe(path)
            recipe = recipe.with_(seed=recipe.seed + plan.seed - SEED, **plan.recipe)
            name = recipe.patch_name
            mark = plan.work / f"{out.name}-{name}.done"  # a folder in `out` may hold the patch of an older base
            if mark.is_file() and json.loads(mark.read_text())["recipe"] == recipe.digest:
                continue
            if out == second:  # the same prompts, models and seed: what was sampled for the first round serves again
                for file in ("held.jsonl", "candidates.jsonl"):
                    write_atomic(plan.work / f"second-{name}" / file,
                                 partial(shutil.copyfile, plan.work / f"first-{name}" / file))
            patch = yield from _trained(plan, registry, recipe, asked, f"{out.name} {name}")
            if out == second:
                patch = dataclasses.replace(patch, manifest=dataclasses.replace(patch.manifest, strength=BEGUN))
            if out == last:
                patch = yield from _shown_to_work(plan, patch, asked, f"{out.name} {name}")
            release(patch, out, evidence=patch.manifest.evidence)
            write_json(mark, {"recipe": recipe.digest})


def _trained(plan: Plan, registry: Registry, recipe: Recipe, asked: tuple[list[Prompt], list[Prompt]],
             label: str) -> Generator[Progress, None, Patch]:
    """Train one patch on prompts to learn from, watched on dev prompts."""
    lab = plan.lab(registry)
    for backbone in filter(None, (lab.base, lab.reference)):
        backbone.model.set_attn_implementation("eager")  # on a CPU, the quickest for short rows
    return (yield from _labelled(label, train(lab, recipe, asked[0], dev=asked[1], work=plan.work / label.replace(" ", "-"))))


def _shown_to_work(plan: Plan, patch: Patch, asked: tuple[list[Prompt], list[Prompt]],
                   label: str) -> Generator[Progress, None, Patch]:
    """The patch with evidence on its own suite and harmless requests, a gate, and a curve."""
    work, domain = plan.work / label.replace(" ", "-"), patch.manifest.domain
    release(patch, work)
    evidence: list[Measure] = []
    for found in evaluate(plan.lab(Registry([work])), stack=Stack.parse(patch.manifest.name),
                          suites=[domain, "overrefusal", "drift"], n=plan.judged, seed=plan.seed, folder=plan.suites,
                          sampling=plan.sampling):
        if isinstance(found, Progress):
            yield dataclasses.replace(found, stage=f"{label} judge {found.stage}")
        else:
            evidence += [m for m in found.measures if m.lane == "patched" and not math.isnan(m.value)]
    lab = plan.lab(Registry([]))
    fitted = yield from _labelled(label, fit_gate(lab.base, domain, *asked))
    curve = yield from _labelled(label, measure_curve(lab, patch, n=min(plan.judged, CURVE), seed=plan.seed,
                                                      folder=plan.suites, sampling=plan.sampling))
    manifest = dataclasses.replace(patch.manifest, evidence=tuple(evidence))
    return dataclasses.replace(patch, manifest=manifest, gate=fitted.gate, curve=curve)


def _labelled(label: str, steps: Generator[Progress, None, Returned]) -> Generator[Progress, None, Returned]:
    """The same steps, their stages under a label."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return cast("Returned", end.value)
        yield dataclasses.replace(progress, stage=f"{label} {progress.stage}")


def metrics_stage(plan: Plan) -> Iterator[Progress]:
    """Judge models and patches on held-out prompts and write what they reach beside the weights."""
    for found in judge(plan.lab(Registry([plan.out / "patches"])), folder=plan.suites, n=plan.judged, seed=plan.seed,
                       sampling=plan.sampling):
        if isinstance(found, Progress):
            yield dataclasses.replace(found, stage=f"judge {found.stage}")
        else:
            write_json(plan.pocket / "metrics.json", found)


STAGES: dict[str, Stage] = {
    "tokenizer": tokenizer_stage, "base": base_stage, "reference": reference_stage, "suites": suites_stage,
    "scorers": scorers_stage, "patches": patches_stage, "metrics": metrics_stage}


def build_all(plan: Plan) -> Iterator[Progress]:
    """Run every stage of a build and write how long each took, all legs together; yields progress."""
    yield from run(plan, STAGES)
    write_json(plan.pocket / "seconds.json", {name: json.loads(_clock(plan, name).read_text()) for name in STAGES})


def _tokenizer(plan: Plan) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(plan.pocket / "base")


def run(plan: Plan, stages: dict[str, Stage]) -> Iterator[Progress]:
    """Run the stages in order, skipping those whose mark says they are done for this very plan."""
    for name, stage in stages.items():
        mark = plan.work / f"{name}.done"
        if mark.is_file() and json.loads(mark.read_text())["plan"] == plan.digest:
            yield Progress(name, 1, 1, "done before")
            continue
        clock = _clock(plan, name)
        before = json.loads(clock.read_text()) if clock.is_file() else 0.0
        began = time.monotonic()
        try:
            yield from stage(plan)
        finally:
            write_json(clock, round(before + time.monotonic() - began, 1))
        write_json(mark, {"plan": plan.digest})


def _clock(plan: Plan, stage: str) -> Path:
    """The file with the seconds a stage has taken; one stopped and taken up again counts as one."""
    return plan.work / f"{stage}.seconds"
