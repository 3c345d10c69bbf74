"""Trains one patch, stage by stage: candidates -> pairs -> SFT -> DPO -> Patch.

Each stage leaves a file in the work folder and is not done again; Ctrl-C or worse costs at most the steps since the
last save. Nothing is changed in the base.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch

from patchlab.artifact import Manifest, Patch, save_patch
from patchlab.engine import Lane, Sampling, Trio
from patchlab.errors import TrainingError
from patchlab.files import write_json
from patchlab.records import Measure, Progress, Prompt
from patchlab.training.candidates import Candidate, read_candidates, sample
from patchlab.training.hold import Companions, Hold, Rows
from patchlab.training.pairs import make_pairs, require_pairs
from patchlab.training.prefix import PrefixTrainer, initial_prefix
from patchlab.training.recipe import IMPROVES, Recipe
from patchlab.training.stages import dpo_steps, sft_steps


def train(trio: Trio, recipe: Recipe, prompts: Sequence[Prompt], *, work: Path) -> Generator[Progress, None, Patch]:
    """Train the patch a recipe describes; yields progress and returns the Patch (without evidence).

    Raises TrainingError where there is nothing to learn from, or the work folder belongs to another recipe or base.
    """
    if recipe.distill and trio.reference.identity.tokenizer_digest != trio.base.identity.tokenizer_digest:
        raise TrainingError(f"distill {recipe.distill:g} with a reference of another vocabulary ({trio.reference.name})",
                            expected=f"the vocabulary of {trio.base.name}", do="set distill to 0")
    _claim(work, recipe, trio)
    domain, others = _divide(recipe, prompts)
    path = work / "candidates.jsonl"
    if not path.is_file():
        yield from _candidates(trio, recipe, domain, others, path)
    candidates = read_candidates(path)
    improves = IMPROVES[recipe.domain]
    pairs, tally = make_pairs([c for c in candidates if c.prompt.domain in improves], margin=recipe.margin,
                              winner=recipe.winner)
    if recipe.dpo_steps:
        require_pairs(pairs, tally)
    write_json(work / "pairs.json", dict(tally))
    yield Progress("pairs", 1, 1, ", ".join(f"{n} {why}" for why, n in tally.most_common()))

    trainer = PrefixTrainer(trio.base, torch.from_numpy(trio.patch(recipe.continue_from).prefix.copy())
                            if recipe.continue_from else initial_prefix(trio.base, recipe))
    safe = _safe_rows(trio, recipe, candidates)
    hold = _hold(trio, recipe, read_candidates(work / "held.jsonl"))
    companions = Companions(trio.base, [torch.from_numpy(trio.patch(name).prefix.copy()) for name in recipe.companions],
                            seed=recipe.seed, in_sequence=recipe.in_sequence)
    yield from sft_steps(trainer, recipe, safe, hold, companions, reference=trio.reference,
                         state=work / "sft.safetensors")
    if recipe.dpo_steps:
        anchor = trio.reference if recipe.anchor == "reference" else trio.base
        yield from dpo_steps(trainer, recipe, pairs, anchor, hold, companions, state=work / "dpo.safetensors")
    return _patch(trio, recipe, trainer)


def _claim(work: Path, recipe: Recipe, trio: Trio) -> None:
    """Mark the work folder as this recipe's on this base, or refuse one that is another's."""
    mine = {"recipe": recipe.digest, "base": trio.base.identity.fingerprint}
    mark = work / "begun.json"
    if mark.is_file():
        begun = json.loads(mark.read_text(encoding="utf-8"))
        for what, value in mine.items():
            if begun.get(what) != value:
                raise TrainingError(f"{work} holds training begun with {what} {str(begun.get(what))[:12]}",
                                    expected=f"{what} {value[:12]}", do="choose another folder, or the same recipe and base")
        return
    write_json(mark, mine | {"dials": dataclasses.asdict(recipe)})


def _divide(recipe: Recipe, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    improves = IMPROVES[recipe.domain]
    domain = [p for p in prompts if p.domain in improves]
    others = [p for p in prompts if p.domain not in improves]
    for name, found, need in (("to improve", domain, " or ".join(improves)), ("to hold", others, "any other")):
        if not found:
            raise TrainingError(f"no prompts {name} among {len(prompts)}", expected=f"some with domain {need}",
                                do="add such prompts to the file")
    return domain, others


def _candidates(trio: Trio, recipe: Recipe, domain: list[Prompt], others: list[Prompt],
                path: Path) -> Iterator[Progress]:
    base, reference = Lane("base", trio.base), Lane("reference", trio.reference)
    sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
    held = path.with_name("held.jsonl")
    if not held.is_file():
        yield from sample([base], others, sampling=sampling, samples=1, path=held)
    yield from sample([base, reference], domain, sampling=sampling, samples=recipe.samples, path=path)


def _safe_rows(trio: Trio, recipe: Recipe, candidates: Sequence[Candidate]) -> Rows:
    """What SFT learns: safe replies of the reference, or of the base where there is no reference's."""
    safe = [c for c in candidates if c.text and c.bad <= recipe.winner]
    learn = [c for c in safe if c.lane == "reference"] or safe
    if not learn:
        raise TrainingError("no safe reply among the candidates", expected=f"some scored {recipe.winner:g} or lower",
                            do="raise winner or use a safer reference")
    return Rows(trio.base, [c.prompt for c in learn], [c.text for c in learn], rows=recipe.rows, seed=recipe.seed)


def _hold(trio: Trio, recipe: Recipe, held: Sequence[Candidate]) -> Hold:
    """What is held: the base's own replies to all other prompts."""
    said = [c for c in held if c.text]
    rows = Rows(trio.base, [c.prompt for c in said], [c.text for c in said], rows=recipe.hold_rows, seed=recipe.seed)
    return Hold(trio.base, rows)


def _patch(trio: Trio, recipe: Recipe, trainer: PrefixTrainer) -> Patch:
    manifest = Manifest(
        name=recipe.patch_name, version=recipe.version, title=recipe.title or recipe.patch_name,
        summary=recipe.summary or f"Steers {trio.base.name} towards {trio.reference.name} on {recipe.domain}.",
        domain=recipe.domain, base=trio.base.identity, reference=trio.reference.identity.id, length=recipe.length,
        width=trio.base.width, licence=recipe.licence, recipe_digest=recipe.digest)
    return Patch(manifest, trainer.prefix.detach().cpu().numpy().copy())


def release(patch: Patch, folder: Path, *, evidence: Sequence[Measure] = ()) -> Path:
    """Write a trained patch with its evidence under `folder`; returns the patch's own folder."""
    manifest = dataclasses.replace(patch.manifest, evidence=tuple(evidence))
    return save_patch(Patch(manifest, patch.prefix), folder / manifest.folder_name)
