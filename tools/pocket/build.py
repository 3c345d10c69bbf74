"""`patchlab pocket build`: everything the project ships, from a seed, in stages that read top to bottom.

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

from patchlab.engine import Sampling, Trio
from patchlab.evaluation import evaluate
from patchlab.evaluation.suites import read_prompts
from patchlab.models import load_backbone, preset
from patchlab.models.presets import ASSETS
from patchlab.patches import Stack
from patchlab.records import Measure, Progress, Prompt
from patchlab.registry import Registry
from patchlab.storage import write_atomic, write_json, write_jsonl
from patchlab.training.calibration import set_aside
from patchlab.training.config import Recipe, read_recipe
from patchlab.training.curve import measure_curve
from patchlab.training.gates import fit_gate
from patchlab.training.trainer import release, train
from tools.pocket.corpus import BASE, REFERENCE, corpus, prompts
from tools.pocket.documents import Document
from tools.pocket.judge import judge
from tools.pocket.labelled import labelled
from tools.pocket.language_model import Size, new_model, save_model, train_model
from tools.pocket.tokenizer import train_tokenizer
from tools.pocket.world_lists import splits
from tools.scorers import build as fit_scorers

RECIPES = ASSETS / "recipes"
JUDGED = {"comment": "toxicity", "occupation": "bias", "harmful": "harmful", "benign": "benign",
          "lookalike": "lookalike"}

AGAIN = 2.0  # strength at which the last round begins: a short patch may move the base more than it does at 1
# dials of the last round, by domain: at that strength, and started well, fewer steps do, and some need less to be held
LAST: dict[str, dict[str, Any]] = {
    "bias": {"hold": 1.0}, "toxicity": {"hold": 1.5, "sft_steps": 150, "drift_budget": 0.018},
    "refusal": {"hold": 20.0, "sft_steps": 350, "dpo_steps": 100, "drift_budget": 0.0016}}
CURVE = 100  # held-out prompts a file that a patch's curve is measured on

Stage = Callable[["Plan"], Iterator[Progress]]
Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How big a build is and where it goes; the toy plan of the tests differs from the real one in numbers only."""

    out: Path
    work: Path
    data: Path | None = None  # public safety data for the scorers; without it the shipped scorers stay
    seed: int = 7
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

    def trio(self, registry: Registry) -> Trio:
        """The two models of this build, with these patches."""
        return Trio(load_backbone(self.pocket / "base"), load_backbone(self.pocket / "reference"), registry=registry,
                    preset=preset("pocket"))

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
    """Train the three patches briefly alone, in full with the others present at random, and again as strong as they will be.

    A patch that was trained at strength 1 and is used at 2 has never met its neighbours, or itself, as they are then: each
    alone still reads well, and three at once make words that do not exist.
    """
    asked = set_aside(read_prompts(plan.suites / "train.jsonl"))
    first, second, last = plan.work / "first", plan.work / "second", plan.out / "patches"
    free: dict[str, Any] = {"refusal_budget": 1.0, "drift_budget": 0.0}  # no calibration
    recipes = [dataclasses.replace(read_recipe(path), seed=plan.seed, **plan.recipe)
               for path in sorted(RECIPES.glob("*.yaml"))]
    names = [recipe.patch_name for recipe in recipes]
    for recipe in recipes:
        brief = dataclasses.replace(recipe, sft_steps=max(1, recipe.sft_steps // 3), own_steps=0, dpo_steps=0, **free)
        yield from _train(plan, Registry([]), brief, asked, first)
    beside = [dataclasses.replace(recipe, continue_from=recipe.patch_name,
                                  companions=tuple(name for name in names if name != recipe.patch_name)) for recipe in recipes]
    for recipe in beside:
        yield from _train(plan, Registry([first]), dataclasses.replace(recipe, **free), asked, second, strength=AGAIN)
    for recipe in beside:
        again = {"seed": plan.seed + 10, **LAST[recipe.domain], **plan.recipe}
        yield from _train(plan, Registry([second]), dataclasses.replace(recipe, **again), asked, last, ship=True)


def _train(plan: Plan, registry: Registry, recipe: Recipe, asked: tuple[list[Prompt], list[Prompt]], out: Path, *,
           strength: float = 0.0, ship: bool = False) -> Iterator[Progress]:
    """Train one patch on prompts to learn from, watched on dev prompts, and release it into `out`, at a strength if given.

    One to be shipped has evidence on its own suite and harmless requests, a gate, and a curve.
    """
    work = plan.work / f"{out.name}-{recipe.patch_name}"
    mark = work.with_suffix(".done")  # a folder in `out` may hold the patch of an older base
    if mark.is_file() and json.loads(mark.read_text())["recipe"] == recipe.digest:
        return
    if recipe.continue_from and not ship:  # the same prompts, models and seed: what was sampled for the first round serves again
        for name in ("held.jsonl", "candidates.jsonl"):
            write_atomic(work / name, partial(shutil.copyfile, plan.work / f"first-{recipe.patch_name}" / name))
    trio = plan.trio(registry)
    for backbone in (trio.base, trio.reference):
        backbone.model.set_attn_implementation("eager")  # on a CPU, the quickest for short rows
    label = f"{out.name} {recipe.patch_name}"
    patch = yield from _labelled(label, train(trio, recipe, asked[0], dev=asked[1], work=work))
    if strength:
        patch = dataclasses.replace(patch, manifest=dataclasses.replace(patch.manifest, strength=strength))
    evidence: list[Measure] = []
    if ship:
        release(patch, work)
        for found in evaluate(plan.trio(Registry([work])), stack=Stack.parse(recipe.patch_name),
                              suites=[recipe.domain, "overrefusal", "drift"], n=plan.judged, seed=plan.seed,
                              folder=plan.suites, sampling=plan.sampling):
            if isinstance(found, Progress):
                yield dataclasses.replace(found, stage=f"{label} judge {found.stage}")
            else:
                evidence += [m for m in found.measures if m.lane == "patched" and not math.isnan(m.value)]
        fitted = yield from _labelled(label, fit_gate(trio.base, recipe.domain, *asked))
        curve = yield from _labelled(label, measure_curve(trio.base, patch, n=min(plan.judged, CURVE), seed=plan.seed,
                                                          folder=plan.suites, sampling=plan.sampling))
        patch = dataclasses.replace(patch, gate=fitted.gate, curve=curve)
    release(patch, out, evidence=evidence)
    write_json(mark, {"recipe": recipe.digest})


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
    for found in judge(plan.trio(Registry([plan.out / "patches"])), folder=plan.suites, n=plan.judged, seed=plan.seed,
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
