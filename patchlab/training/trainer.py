"""Trains one patch, stage by stage: prompts -> candidates -> pairs -> SFT -> on-policy -> DPO -> strength -> Patch.

Each stage leaves a file in the work folder and is not done again; Ctrl-C or worse costs at most the steps since the
last save. Nothing is changed in the base. Under `accelerate launch` every process runs this same story.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from patchlab.engine import Lane, Sampling, Trio
from patchlab.errors import NotFoundError, TrainingError
from patchlab.models import Backbone
from patchlab.patches import Manifest, Patch
from patchlab.records import Measure, Pair, Progress, Prompt
from patchlab.storage import write_json
from patchlab.training.calibration import Dev, Watch, calibrate, set_aside
from patchlab.training.candidates import read_candidates, sample
from patchlab.training.checkpoints import StepLog
from patchlab.training.config import Recipe
from patchlab.training.dataset import Earlier, Rows
from patchlab.training.distributed import Processes, join
from patchlab.training.kl_regularizer import Companions, Hold
from patchlab.training.losses import Desk, dpo_steps, sft_steps
from patchlab.training.on_policy import own_steps
from patchlab.training.pair_selection import fitting, harmless_pairs, make_pairs, require_pairs, stored_pairs, write_pairs
from patchlab.training.prefix import PrefixTrainer, initial_prefix


def train(trio: Trio, recipe: Recipe, prompts: Sequence[Prompt], *, work: Path, pairs: Sequence[Pair] | None = None,
          dev: Sequence[Prompt] = ()) -> Generator[Progress, None, Patch]:
    """Train the patch a recipe describes; yields progress and returns the Patch (without evidence).

    With `pairs` nothing is sampled for the domain: they are what is learned. `dev` prompts serve early stop and calibration;
    without any, a tenth of `prompts` is set aside where the recipe asks for either. A trio may have no reference.
    Raises TrainingError where there is nothing to learn from, the work folder belongs to another training, or the disk fails.
    """
    try:
        return (yield from _stages(trio, recipe, prompts, work, pairs, dev))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{work} cannot be read or written ({error})", expected="whole files and room on the disk",
                            do="free space and go on in the same folder; what was saved before is intact") from error


def _stages(trio: Trio, recipe: Recipe, prompts: Sequence[Prompt], work: Path, given: Sequence[Pair] | None,
            dev: Sequence[Prompt]) -> Generator[Progress, None, Patch]:
    processes = join()
    reference = trio.reference if recipe.reference == "preset" else None
    start, own = _start(trio, recipe)
    if recipe.watches and not dev:
        prompts, dev = set_aside(prompts)
    watched = Dev(trio.base, recipe, dev) if recipe.watches else None
    domain, others = _divide(recipe, prompts, given)
    if processes.first:
        _claim(work, recipe, trio.base, reference, prompts, given)
        yield from _candidates(trio.base, reference, recipe, [] if given is not None else domain, others, work)
        yield from _pairs(trio.base, reference, recipe, given, work)
    processes.wait()

    pairs = stored_pairs(work / "pairs.jsonl")
    trainer = PrefixTrainer(trio.base, start, processes, strength=own)
    desk = _desk(trio, recipe, trainer, work, Watch(watched, recipe) if watched and recipe.patience else None)
    learn = [(p.prompt, p.chosen) for p in pairs] if given is not None else _safe(recipe, work)
    yield from sft_steps(desk, _rows(trio.base, recipe, learn, recipe.rows, desk.earlier), reference)
    if recipe.own_steps and reference:
        yield from own_steps(desk, domain or [pair.prompt for pair in pairs], reference)
    for number in range(recipe.rounds if recipe.dpo_steps else 0):
        yield from dpo_steps(desk, pairs, reference if recipe.anchor == "reference" and reference else trio.base, number)
    strength = own
    if watched and recipe.calibrates:
        strength = yield from _strength(trainer, recipe, watched, work / "strength.json")
    return _patch(trio, recipe, reference, trainer, strength)


def _start(trio: Trio, recipe: Recipe) -> tuple[torch.Tensor, float]:
    """The prefix [P, D] training begins with, and the strength it trains at: that of the patch it continues from, or 1.

    What cannot begin is found before anything is sampled.
    """
    if trio.base.bits:  # what answers from so few bits may not carry gradients, and would not say so
        raise TrainingError(f"a base in {trio.base.bits} bits", expected="its weights as they are", do="load it without bits")
    for name in recipe.companions:
        trio.patch(name)
    if recipe.anchor == "reference" and trio.reference is None:
        raise TrainingError("anchor: reference without a reference", expected="anchor sft or base", do="change the recipe")
    for name, value in (("distill", recipe.distill), ("own_steps", recipe.own_steps)):
        teacher = trio.reference if recipe.reference == "preset" else None
        if value and (teacher is None or teacher.identity.tokenizer_digest != trio.base.identity.tokenizer_digest):
            raise TrainingError(f"{name} {value:g} with {'no reference' if teacher is None else teacher.name}",
                                expected=f"a reference with the vocabulary of {trio.base.name}", do=f"set {name} to 0")
    if not recipe.continue_from:
        return initial_prefix(trio.base, recipe), 1.0
    patch = trio.patch(recipe.continue_from)
    begun = torch.from_numpy(patch.prefix.copy())
    if len(begun) != recipe.length:
        raise TrainingError(f"patch {recipe.continue_from!r} of length {len(begun)} to continue from",
                            expected=f"length {recipe.length}, as the recipe says", do=f"set length: {len(begun)}")
    return begun, patch.manifest.strength


def _claim(work: Path, recipe: Recipe, base: Backbone, reference: Backbone | None, prompts: Sequence[Prompt],
           given: Sequence[Pair] | None) -> None:
    """Mark the work folder as this recipe's on this base, or refuse one that is another's."""
    # a budget may be changed afterwards: nothing but the last stage depends on it
    fixed = recipe.with_(refusal_budget=0.5, drift_budget=0.0) if recipe.calibrates else recipe
    mine = {"recipe": fixed.digest, "base": base.identity.fingerprint,
            "reference": reference.identity.fingerprint if reference else "none",
            "prompts": _digest(prompts), "pairs": "none" if given is None else _digest(given)}
    mark = work / "begun.json"
    if mark.is_file():
        begun = {"pairs": "none", **json.loads(mark.read_text(encoding="utf-8"))}
        for what, value in mine.items():
            if begun.get(what, value) != value:
                raise TrainingError(f"{work} holds training begun with {what} {str(begun[what])[:12]}",
                                    expected=f"{what} {value[:12]}", do="choose another folder, or what it was begun with")
        return
    write_json(mark, mine | {"dials": dataclasses.asdict(recipe)})


def _digest(records: Sequence[Prompt] | Sequence[Pair]) -> str:
    text = json.dumps([dataclasses.asdict(record) for record in records])
    return hashlib.sha256(text.encode()).hexdigest()


def _divide(recipe: Recipe, prompts: Sequence[Prompt], given: Sequence[Pair] | None) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to improve and those to hold."""
    improves = recipe.improved
    domain = [p for p in prompts if p.domain in improves]
    others = [p for p in prompts if p.domain not in improves]
    known = {p.domain for p in others}
    for name in recipe.holds:
        if name not in known:
            raise NotFoundError.of("domain to hold", name, known)
    others = [p for p in others if p.domain in (recipe.holds or known)]
    for name, found, need in (("to improve", domain or given, " or ".join(improves)), ("to hold", others, "any other")):
        if not found:
            raise TrainingError(f"no prompts {name} among {len(prompts)}", expected=f"some with domain {need}",
                                do="add such prompts to the file")
    return domain, others


def _candidates(base: Backbone, reference: Backbone | None, recipe: Recipe, domain: list[Prompt], others: list[Prompt],
                work: Path) -> Iterator[Progress]:
    lanes = [Lane("base", base), *([Lane("reference", reference)] if reference else [])]
    sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
    for name, asked, some, samples in (("held", others, lanes[:1], 1), ("candidates", domain, lanes, recipe.samples)):
        path = work / f"{name}.jsonl"
        if asked and not path.is_file():
            yield from sample(some, asked, sampling=sampling, samples=samples, path=path)


def _pairs(base: Backbone, reference: Backbone | None, recipe: Recipe, given: Sequence[Pair] | None,
           work: Path) -> Iterator[Progress]:
    """Make the pairs, or take those given, and write them with a tally of every drop."""
    path = work / "pairs.jsonl"
    if path.is_file():
        return
    if given is None:
        found = [c for c in read_candidates(work / "candidates.jsonl") if c.prompt.domain in recipe.improved]
        pairs, tally = make_pairs(found, margin=recipe.margin, winner=recipe.winner)
    else:
        pairs, tally = list(given), Counter({"kept": len(given)})
    readers = [base, *([reference] if reference and recipe.anchor == "reference" else [])]
    made = len(pairs)
    pairs = fitting(pairs, readers, length=recipe.length + recipe.distance)
    tally += Counter({"longer than the context": made - len(pairs)})
    tally -= Counter({"kept": made - len(pairs)})
    if recipe.dpo_steps or given is not None:
        require_pairs(pairs, tally)
    if recipe.benign_pairs and recipe.dpo_steps:
        more, dropped = harmless_pairs(read_candidates(work / "held.jsonl"), pairs, recipe)
        pairs, tally = [*pairs, *more], tally + dropped
    write_json(work / "pairs.json", dict(tally))
    write_pairs(path, pairs)
    yield Progress("pairs", 1, 1, ", ".join(f"{n} {why}" for why, n in tally.most_common()))


def _safe(recipe: Recipe, work: Path) -> list[tuple[Prompt, str]]:
    """What SFT learns: safe replies of the reference, or of the base where there is no reference's."""
    safe = [c for c in read_candidates(work / "candidates.jsonl") if c.text and c.bad <= recipe.winner]
    learn = [c for c in safe if c.lane == "reference"] or safe
    if not learn:
        raise TrainingError("no safe reply among the candidates", expected=f"some scored {recipe.winner:g} or lower",
                            do="raise winner or use a safer reference")
    return [(c.prompt, c.text) for c in learn]


def _desk(trio: Trio, recipe: Recipe, trainer: PrefixTrainer, work: Path, watch: Watch | None) -> Desk:
    """What the stages work with. What is held, and what rows may stand behind, is the base's own to all other prompts."""
    held = read_candidates(work / "held.jsonl")
    said = [(c.prompt, c.text) for c in held if c.text]
    if not said:
        raise TrainingError(f"{len(held)} empty replies of the base to the prompts to hold", expected="some text",
                            do="give prompts that the base answers")
    earlier = Earlier(trio.base, said, most=recipe.behind, seed=recipe.seed) if recipe.behind else None
    hold = Hold(trio.base, _rows(trio.base, recipe, said, recipe.hold_rows, earlier), held_to=recipe.held_to,
                checkpointing=recipe.checkpointing, lead=recipe.hold_lead)
    mates = [trio.patch(name) for name in recipe.companions]
    companions = Companions(trio.base, [torch.from_numpy(mate.prefix.copy()) for mate in mates], seed=recipe.seed,
                            own=trainer.strength, strengths=[mate.manifest.strength for mate in mates],
                            presence=recipe.presence, in_sequence=recipe.in_sequence, distance=recipe.distance)
    return Desk(trainer=trainer, recipe=recipe, hold=hold, companions=companions, log=StepLog(work / "log.jsonl"),
                folder=work, watch=watch, earlier=earlier)


def _rows(base: Backbone, recipe: Recipe, said: Sequence[tuple[Prompt, str]], rows: int, earlier: Earlier | None) -> Rows:
    return Rows(base, said, rows=rows, seed=recipe.seed, length=recipe.length + recipe.distance, earlier=earlier)


def _strength(trainer: PrefixTrainer, recipe: Recipe, dev: Dev, path: Path) -> Generator[Progress, None, float]:
    """The calibrated strength, from its file where that was made for the same budgets."""
    processes: Processes = trainer.processes
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if processes.first and found.get("budgets") != [recipe.refusal_budget, recipe.drift_budget]:
        yield from calibrate(dev, trainer.part(), recipe=recipe, path=path)
    processes.wait()
    return float(json.loads(path.read_text(encoding="utf-8"))["strength"])


def _patch(trio: Trio, recipe: Recipe, reference: Backbone | None, trainer: PrefixTrainer, strength: float) -> Patch:
    towards = reference.name if reference else "its own safer replies"
    manifest = Manifest(
        name=recipe.patch_name, version=recipe.version, title=recipe.title or recipe.patch_name,
        summary=recipe.summary or f"Steers {trio.base.name} towards {towards} on {recipe.domain}.",
        domain=recipe.domain, base=trio.base.identity, reference=reference.identity.id if reference else "none",
        length=recipe.length, width=trio.base.width, licence=recipe.licence, strength=strength, recipe_digest=recipe.digest)
    return Patch(manifest, trainer.prefix.detach().cpu().numpy().copy())


def release(patch: Patch, folder: Path, *, evidence: Sequence[Measure] = ()) -> Path:
    """Write a trained patch with its evidence under `folder`; returns the patch's own folder."""
    manifest = dataclasses.replace(patch.manifest, evidence=tuple(evidence))
    return dataclasses.replace(patch, manifest=manifest).save_pretrained(folder / manifest.folder_name)
