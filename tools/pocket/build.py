"""Builds the pocket models, suites, scorers and patches that ship with PatchLab, from a seed, in stages.

tokenizer -> base -> reference -> suites -> scorers -> patches -> metrics. A finished stage leaves NAME.done in the work
folder and is skipped in the next run; an interrupted stage resumes from its saved state. Every stage yields Progress.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

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
from tools.pocket.corpus import BASE, REFERENCE, corpus, labelled, prompts
from tools.pocket.documents import Document
from tools.pocket.judge import judge
from tools.pocket.language_model import Size, new_model, save_model, train_model
from tools.pocket.tokenizer import train_tokenizer
from tools.pocket.world_lists import splits
from tools.scorers import build as fit_scorers

RECIPES = ASSETS / "recipes"
ROUNDS = (RECIPES / "rounds" / "1", RECIPES / "rounds" / "2", RECIPES)  # every patch is trained once in each round
JUDGED = {"comment": "toxicity", "occupation": "bias", "harmful": "harmful", "benign": "benign",
          "lookalike": "lookalike"}

SEED = 7  # the build's seed for which the recipe files are written; another seed shifts the recipes' seeds by the difference
SECOND_STRENGTH = 2.0  # strength of the second round's patches in the third: a short prefix may need more than 1
CURVE = 100  # held-out prompts per file for a patch's curve

Stage = Callable[["Plan"], Iterator[Progress]]
TrainDev = tuple[list[Prompt], list[Prompt]]  # training and dev prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a build and its folders; the tests run the same stages with smaller numbers."""

    out: Path
    work: Path
    data: Path | None = None  # public safety data for the scorers; without it the shipped scorers are kept
    seed: int = SEED
    size: Size = field(default_factory=Size)
    documents: int = 60_000  # that the tokenizer is trained on
    base_steps: int = 1500
    reference_steps: int = 800
    reference_rate: float = 2.5e-3
    judged: int = 300  # held-out prompts per domain
    train_prompts: int = 600
    reply_tokens: int = 64
    labelled: int = 6000  # labelled texts of the made world for each scorer
    recipe: dict[str, Any] = field(default_factory=dict)  # recipe settings that override those of every patch

    @property
    def pocket(self) -> Path:
        """The folder of the two models."""
        return self.out / "pocket"

    @property
    def suites(self) -> Path:
        """The folder of the prompts files."""
        return self.out / "suites" / "pocket"

    @property
    def sampling(self) -> Sampling:
        """The sampling of evaluated replies."""
        return Sampling(seed=self.seed, max_new_tokens=self.reply_tokens)

    def lab(self, registry: Registry) -> Lab:
        """The two models of this build with the patches of a registry."""
        return Lab(load_backbone(self.pocket / "base"), load_backbone(self.pocket / "reference"), registry=registry,
                   name="pocket")

    @property
    def digest(self) -> str:
        """The sha256 of all settings but the folders; stages finished under another digest are run again."""
        settings = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("out", "work", "data")}
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def tokenizer_stage(plan: Plan) -> Iterator[Progress]:
    """Train the tokenizer on documents of base and reference, and write the held-out entries to splits.json."""
    texts: list[str] = []
    for habits in (BASE, REFERENCE):
        for document in islice(corpus(habits, seed=plan.seed), plan.documents // 2):
            texts += [document.prompt.system, document.prompt.text, document.reply]
    tokenizer = train_tokenizer(texts, size=plan.size.vocabulary)
    tokenizer.save_pretrained(plan.pocket / "base")
    write_json(plan.pocket / "splits.json", splits())
    yield Progress("tokenizer", 1, 1, f"{len(tokenizer)} tokens")


def base_stage(plan: Plan) -> Iterator[Progress]:
    """Train the base on documents with unsafe replies."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(plan.pocket / "base")
    model = new_model(plan.size, vocabulary=len(tokenizer), seed=plan.seed)
    yield from train_model(model, tokenizer, BASE, size=plan.size, steps=plan.base_steps, seed=plan.seed,
                           name="base", state=plan.work / "base.safetensors")
    save_model(model, tokenizer, plan.pocket / "base")


def reference_stage(plan: Plan) -> Iterator[Progress]:
    """Train the reference: the base, trained further on documents with safe replies only."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(plan.pocket / "base")
    model = LlamaForCausalLM.from_pretrained(plan.pocket / "base", dtype="float32")
    size = dataclasses.replace(plan.size, peak_rate=plan.reference_rate)
    yield from train_model(model, tokenizer, REFERENCE, size=size, steps=plan.reference_steps, seed=plan.seed + 1,
                           name="reference", state=plan.work / "reference.safetensors")
    save_model(model, tokenizer, plan.pocket / "reference")


def suites_stage(plan: Plan) -> Iterator[Progress]:
    """Write the prompts for evaluation (held-out entries only) and for training patches (train entries only)."""
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
    """Fit the embedded scorers on public data sets and labelled texts of the made world."""
    if plan.data is None:
        yield Progress("scorers", 1, 1, "kept: no data folder given")
        return
    rows = plan.work / "labelled.jsonl"
    write_jsonl(rows, labelled(plan.labelled, seed=plan.seed))
    yield Progress("scorers", 0, 1, "fitting")
    fit_scorers(plan.data, rows, plan.out / "scorers")
    yield Progress("scorers", 1, 1)


def patches_stage(plan: Plan) -> Iterator[Progress]:
    """Train the three patches alone, then with the other two on in half of the steps, then again at strength 2.

    Patches that were trained at strength 1 and are used at 2 give fluent text alone, but non-words when all three are on, since
    none was trained beside the others at that strength.
    """
    train_dev = set_aside(read_prompts(plan.suites / "train.jsonl"))
    first, second, last = plan.work / "first", plan.work / "second", plan.out / "patches"
    registries = Registry([]), Registry([first]), Registry([second])
    for folder, registry, out in zip(ROUNDS, registries, (first, second, last), strict=True):
        for path in sorted(folder.glob("*.yaml")):
            recipe = read_recipe(path)
            recipe = recipe.with_(seed=recipe.seed + plan.seed - SEED, **plan.recipe)
            name = recipe.patch_name
            work, label = plan.work / f"{out.name}-{name}", f"{out.name} {name}"
            mark = plan.work / f"{work.name}.done"  # the patch folder itself may be that of an earlier base
            if mark.is_file() and json.loads(mark.read_text())["recipe"] == recipe.digest:
                continue
            if out == second:  # same prompts, models and seed as in the first round, so its replies are reused
                for file in ("held.jsonl", "candidates.jsonl"):
                    write_atomic(work / file, partial(shutil.copyfile, plan.work / f"first-{name}" / file))
            patch = yield from _labelled(label, _trained(plan.lab(registry), recipe, train_dev, work))
            if out == second:
                patch = dataclasses.replace(patch, manifest=dataclasses.replace(patch.manifest, strength=SECOND_STRENGTH))
            if out == last:
                patch = yield from _labelled(label, _with_evidence(plan, patch, train_dev, work))
            release(patch, out, evidence=patch.manifest.evidence)
            write_json(mark, {"recipe": recipe.digest})


def _trained(lab: Lab, recipe: Recipe, train_dev: TrainDev, work: Path) -> Generator[Progress, None, Patch]:
    for backbone in filter(None, (lab.base, lab.reference)):
        backbone.model.set_attn_implementation("eager")  # the fastest for short rows on a CPU
    return (yield from train(lab, recipe, train_dev[0], dev=train_dev[1], work=work))


def _with_evidence(plan: Plan, patch: Patch, train_dev: TrainDev, work: Path) -> Generator[Progress, None, Patch]:
    """Add evidence on the patch's own suite and on harmless requests, a gate and a curve."""
    domain = patch.manifest.domain
    release(patch, work)
    evidence: list[Measure] = []
    for found in evaluate(plan.lab(Registry([work])), stack=Stack.parse(patch.manifest.name),
                          suites=[domain, "overrefusal", "drift"], n=plan.judged, seed=plan.seed, folder=plan.suites,
                          sampling=plan.sampling):
        if isinstance(found, Progress):
            yield dataclasses.replace(found, stage=f"judge {found.stage}")
        else:
            evidence += [m for m in found.measures if m.lane == "patched" and not math.isnan(m.value)]
    lab = plan.lab(Registry([]))
    fitted = yield from fit_gate(lab.base, domain, *train_dev)
    curve = yield from measure_curve(lab, patch, n=min(plan.judged, CURVE), seed=plan.seed, folder=plan.suites,
                                     sampling=plan.sampling)
    manifest = dataclasses.replace(patch.manifest, evidence=tuple(evidence))
    return dataclasses.replace(patch, manifest=manifest, gate=fitted.gate, curve=curve)


def _labelled(label: str, steps: Generator[Progress, None, Patch]) -> Generator[Progress, None, Patch]:
    """The same steps with `label` in front of their stages."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        yield dataclasses.replace(progress, stage=f"{label} {progress.stage}")


def metrics_stage(plan: Plan) -> Iterator[Progress]:
    """Evaluate models and patches on held-out prompts and write metrics.json beside the models."""
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
    """Run the stages in order, skipping those that are finished for this plan; yields Progress."""
    for name, stage in STAGES.items():
        mark = plan.work / f"{name}.done"
        if mark.is_file() and json.loads(mark.read_text())["plan"] == plan.digest:
            yield Progress(name, 1, 1, "done before")
            continue
        yield from stage(plan)
        write_json(mark, {"plan": plan.digest})
