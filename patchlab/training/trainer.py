"""Trains one patch, stage by stage: prompts -> candidates -> pairs -> SFT -> on-policy -> DPO -> strength -> Patch.

Each stage leaves a file in the work folder and is not repeated; an interruption costs at most the steps since the last save.
The base is never changed. Under `accelerate launch` every process runs the same stages.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from patchlab.engine import Lab, Sampling
from patchlab.errors import NotFoundError, TrainingError
from patchlab.models import Backbone
from patchlab.patches import Manifest, Patch
from patchlab.records import Pair, Progress, Prompt
from patchlab.storage import write_json
from patchlab.training.calibration import CalibrationSet, EarlyStopping, calibrate, set_aside
from patchlab.training.candidates import read_candidates, sample
from patchlab.training.checkpoints import StepLog
from patchlab.training.companions import Companions
from patchlab.training.config import Recipe
from patchlab.training.dataset import Dataset, EarlierTurns, TrainingExample
from patchlab.training.distributed import join
from patchlab.training.kl_regularizer import KLRegularizer
from patchlab.training.loop import TrainingContext
from patchlab.training.losses import dpo_steps, sft_steps
from patchlab.training.on_policy import on_policy_steps
from patchlab.training.preference_data import fitting, harmless_pairs, make_pairs, require_pairs, stored_pairs, write_pairs
from patchlab.training.prefix import PrefixTrainer, initial_prefix

FILES = "2"  # the version of the work folder's files; another is refused
# what the first stage does with safe replies and, where the recipe has one, a reference
FirstStage = Callable[[TrainingContext, Dataset, Backbone | None], Iterator[Progress]]


def train(lab: Lab, recipe: Recipe, prompts: Sequence[Prompt], *, work: Path, pairs: Sequence[Pair] | None = None,
          dev: Sequence[Prompt] = (), first: FirstStage = sft_steps) -> Generator[Progress, None, Patch]:
    """Train the patch a recipe describes; yields progress and returns the Patch (without evidence).

    With `pairs` nothing is sampled for the domain: they are learned. `dev` are the calibration prompts; without any, a tenth of
    `prompts` is set aside where the recipe asks for them. `first` is the stage that learns safe replies. A lab without a
    reference trains recipes with `reference: none`. Raises TrainingError where there is nothing to learn from, the work folder
    belongs to another training, or the disk fails.
    """
    try:
        return (yield from _Training(lab, recipe, work, first).stages(prompts, pairs, dev))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{work} cannot be read or written ({error})", expected="whole files and room on the disk",
                            do="free space and go on in the same folder; what was saved before is intact") from error


class _Training:
    """One training: the lab, the recipe, its work folder, and the reference where the recipe uses one."""

    def __init__(self, lab: Lab, recipe: Recipe, work: Path, first: FirstStage) -> None:
        self.lab, self.base, self.recipe, self.work, self.first = lab, lab.base, recipe, work, first
        self.reference = lab.reference if recipe.reference == "preset" else None
        self.processes = join()

    def stages(self, prompts: Sequence[Prompt], given: Sequence[Pair] | None,
               dev: Sequence[Prompt]) -> Generator[Progress, None, Patch]:
        """All stages in order; every process runs those behind the pairs."""
        recipe = self.recipe
        self._check()
        start, strength = self._start()
        if recipe.watches and not dev:
            prompts, dev = set_aside(prompts)
        calibration = CalibrationSet(self.lab.scheduler, recipe, dev) if recipe.watches else None
        domain, others = _divide(recipe, prompts, given)
        if self.processes.first:
            self._claim(prompts, given)
            yield from self._candidates([] if given is not None else domain, others)
            yield from self._pairs(given)
        self.processes.barrier()

        pairs = stored_pairs(self.work / "pairs.jsonl")
        prefix = PrefixTrainer(self.base, start, self.processes, strength=strength)
        context = self._context(prefix, EarlyStopping(calibration, recipe) if calibration and recipe.patience else None)
        safe = [TrainingExample(p.prompt, p.chosen, p.chosen_cut) for p in pairs] if given is not None else self._safe()
        yield from self.first(context, self._dataset(safe, recipe.rows, context.history), self.reference)
        if recipe.own_steps and self.reference:
            yield from on_policy_steps(context, domain or [pair.prompt for pair in pairs], self.reference)
        anchor = {"reference": self.reference, "none": None}.get(recipe.anchor, self.base)
        for number in range(recipe.rounds if recipe.dpo_steps else 0):
            yield from dpo_steps(context, pairs, anchor, number)
        if calibration and recipe.calibrates:
            strength = yield from self._strength(prefix, calibration)
        return self._patch(prefix, strength)

    def _check(self) -> None:
        """Find what cannot begin before anything is sampled."""
        recipe = self.recipe
        if self.base.bits:  # quantised layers may pass on no gradients, without an error
            raise TrainingError(f"a base in {self.base.bits} bits", expected="its weights as they are", do="load it without bits")
        if recipe.reference == "preset" and self.reference is None:
            raise TrainingError(f"a recipe for a reference with {self.base.name}, which is loaded without a reference",
                                expected="a reference, or a recipe with reference: none", do="load one, or change the recipe")
        for name, value in (("distill", recipe.distill), ("own_steps", recipe.own_steps)):
            teacher = self.reference
            if value and (teacher is None or teacher.identity.tokenizer_digest != self.base.identity.tokenizer_digest):
                raise TrainingError(f"{name} {value:g} with {'no reference' if teacher is None else teacher.name}",
                                    expected=f"a reference with the vocabulary of {self.base.name}", do=f"set {name} to 0")
        for name in recipe.companions:
            self._installed(name)

    def _installed(self, name: str) -> tuple[torch.Tensor, float]:
        """The prefix [P, D] and the strength of an installed patch."""
        patch = self.lab.planner.patch(name)
        return torch.from_numpy(patch.prefix.copy()), patch.manifest.strength

    def _start(self) -> tuple[torch.Tensor, float]:
        """The prefix [P, D] training begins with, and its strength: that of the patch it continues from, or 1."""
        recipe = self.recipe
        if not recipe.continue_from:
            return initial_prefix(self.base, recipe), 1.0
        begun, strength = self._installed(recipe.continue_from)
        if len(begun) != recipe.length:
            raise TrainingError(f"patch {recipe.continue_from!r} of length {len(begun)} to continue from",
                                expected=f"length {recipe.length}, as the recipe says", do=f"set length: {len(begun)}")
        return begun, strength

    def _claim(self, prompts: Sequence[Prompt], given: Sequence[Pair] | None) -> None:
        """Mark the work folder as this training's, or refuse one that is another's."""
        recipe = self.recipe
        # a budget may be changed afterwards: nothing but the last stage depends on it
        fixed = recipe.with_(refusal_budget=0.5, drift_budget=0.0) if recipe.calibrates else recipe
        mine = {"files of version": FILES, "recipe": fixed.digest, "base": self.base.identity.fingerprint,
                "reference": self.reference.identity.fingerprint if self.reference else "none",
                "prompts": _digest(prompts), "pairs": "none" if given is None else _digest(given)}
        mark = self.work / "begun.json"
        if not mark.is_file():
            write_json(mark, mine | {"dials": dataclasses.asdict(recipe)})
        begun = json.loads(mark.read_text(encoding="utf-8"))
        for what, value in mine.items():
            if begun.get(what) != value:
                raise TrainingError(f"{self.work} holds training begun with {what} {str(begun.get(what))[:12]}",
                                    expected=f"{what} {value[:12]}", do="choose another folder, or what it was begun with")

    def _candidates(self, domain: Sequence[Prompt], others: Sequence[Prompt]) -> Iterator[Progress]:
        recipe = self.recipe
        lanes = self.lab.lanes(names=["base", "reference"] if self.reference else ["base"])
        sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
        for name, asked, some, samples in (("held", others, lanes[:1], 1), ("candidates", domain, lanes, recipe.samples)):
            path = self.work / f"{name}.jsonl"
            if asked and not path.is_file():
                yield from sample(some, asked, sampling=sampling, samples=samples, path=path)

    def _pairs(self, given: Sequence[Pair] | None) -> Iterator[Progress]:
        """Select the pairs, or take those given, and write them with the number of dropped ones by reason."""
        path, recipe = self.work / "pairs.jsonl", self.recipe
        if path.is_file():
            return
        if given is None:
            found = read_candidates(self.work / "candidates.jsonl")
            pairs, counts = make_pairs(found, margin=recipe.margin, winner=recipe.winner)
        else:
            pairs, counts = list(given), Counter({"kept": len(given)})
        readers = [self.base, *([self.reference] if self.reference and recipe.anchor == "reference" else [])]
        made = len(pairs)
        pairs = fitting(pairs, readers, length=recipe.length + recipe.distance + recipe.behind)
        counts += Counter({"longer than the context": made - len(pairs)})
        counts -= Counter({"kept": made - len(pairs)})
        if recipe.dpo_steps or given is not None:
            require_pairs(pairs, counts)
        if recipe.benign_pairs and recipe.dpo_steps:
            more, dropped = harmless_pairs(read_candidates(self.work / "held.jsonl"), pairs, recipe)
            pairs, counts = [*pairs, *more], counts + dropped
        write_json(self.work / "pairs.json", dict(counts))
        write_pairs(path, pairs)
        yield Progress("pairs", 1, 1, ", ".join(f"{n} {why}" for why, n in counts.most_common()))

    def _safe(self) -> list[TrainingExample]:
        """What SFT learns: safe replies of the reference, or of the base where the reference has none."""
        winner = self.recipe.winner
        safe = [c for c in read_candidates(self.work / "candidates.jsonl") if c.text and c.score <= winner]
        learn = [c for c in safe if c.lane == "reference"] or safe
        if not learn:
            raise TrainingError("no safe reply among the candidates", expected=f"some scored {winner:g} or lower",
                                do="raise winner or use a safer reference")
        return [TrainingExample(c.prompt, c.text, c.cut) for c in learn]

    def _context(self, prefix: PrefixTrainer, early_stopping: EarlyStopping | None) -> TrainingContext:
        """What the stages share. The base's own replies to all other prompts are held, and serve as earlier turns."""
        recipe = self.recipe
        candidates = read_candidates(self.work / "held.jsonl")
        held = [TrainingExample(c.prompt, c.text, c.cut) for c in candidates if c.text]
        if not held:
            raise TrainingError(f"{len(candidates)} empty replies of the base to the prompts to hold", expected="some text",
                                do="give prompts that the base answers")
        history = EarlierTurns(self.base, held, most=recipe.behind, seed=recipe.seed) if recipe.behind else None
        regularizer = KLRegularizer(self.base, self._dataset(held, recipe.hold_rows, history), held_to=recipe.held_to,
                                    checkpointing=recipe.checkpointing, lead=recipe.hold_lead)
        others = [self._installed(name) for name in recipe.companions]
        companions = Companions(self.base, others, seed=recipe.seed, strength=prefix.strength, presence=recipe.presence,
                                in_sequence=recipe.in_sequence, distance=recipe.distance)
        return TrainingContext(prefix=prefix, scheduler=self.lab.scheduler, recipe=recipe, regularizer=regularizer,
                               companions=companions, log=StepLog(self.work / "log.jsonl"), folder=self.work,
                               early_stopping=early_stopping, history=history)

    def _dataset(self, examples: Sequence[TrainingExample], rows: int, history: EarlierTurns | None) -> Dataset:
        recipe = self.recipe
        return Dataset(self.base, examples, rows=rows, seed=recipe.seed, length=recipe.length + recipe.distance, history=history)

    def _strength(self, prefix: PrefixTrainer, calibration: CalibrationSet) -> Generator[Progress, None, float]:
        """The calibrated strength, from its file where that was made for the same budgets."""
        path, budgets = self.work / "strength.json", [self.recipe.refusal_budget, self.recipe.drift_budget]
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if self.processes.first and found.get("budgets") != budgets:
            yield from calibrate(calibration, prefix.frozen(), recipe=self.recipe, path=path)
        self.processes.barrier()
        return float(json.loads(path.read_text(encoding="utf-8"))["strength"])

    def _patch(self, prefix: PrefixTrainer, strength: float) -> Patch:
        recipe, reference = self.recipe, self.reference
        towards = reference.name if reference else "its own safer replies"
        manifest = Manifest(
            name=recipe.patch_name, version=recipe.version, title=recipe.title or recipe.patch_name,
            summary=recipe.summary or f"Steers {self.base.name} towards {towards} on {recipe.domain}.",
            domain=recipe.domain, base=self.base.identity, reference=reference.identity.id if reference else "none",
            length=recipe.length, width=self.base.width, licence=recipe.licence, strength=strength, recipe_digest=recipe.digest)
        return Patch(manifest, prefix.tensor.detach().cpu().numpy().copy())


def _digest(records: Sequence[Prompt] | Sequence[Pair]) -> str:
    text = json.dumps([dataclasses.asdict(record) for record in records])
    return hashlib.sha256(text.encode()).hexdigest()


def _divide(recipe: Recipe, prompts: Sequence[Prompt], given: Sequence[Pair] | None) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to improve and those to hold."""
    improves = recipe.improved
    domain = [p for p in prompts if p.domain in improves]
    others = [p for p in prompts if p.domain not in improves]
    known = {p.domain for p in others}
    if recipe.domain in known - {*recipe.holds}:  # prompts of the patch's own domain are hardly meant to be held
        raise TrainingError(f"{sum(p.domain == recipe.domain for p in others)} prompts of domain {recipe.domain!r} to hold",
                            expected=f"domain {' or '.join(improves)} for those that a patch of {recipe.domain!r} improves",
                            do="rename it in the prompts file, or name it in the recipe's improves or holds")
    for name in recipe.holds:
        if name not in known:
            raise NotFoundError.of("domain to hold", name, known)
    others = [p for p in others if p.domain in (recipe.holds or known)]
    for name, found, need in (("to improve", domain or given, " or ".join(improves)), ("to hold", others, "any other")):
        if not found:
            raise TrainingError(f"no prompts {name} among {len(prompts)}", expected=f"some with domain {need}",
                                do="add such prompts to the file")
    return domain, others
