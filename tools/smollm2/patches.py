"""Trains the patches of SmolLM2 towards its safer release: refusal, toxicity, bias, each in the frame of a conversation."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from pathlib import Path

from patchlab.engine import Lab, Sampling
from patchlab.patches import Patch
from patchlab.records import Pair, Progress, Prompt
from patchlab.registry import Registry
from patchlab.training.candidates import read_candidates, sample
from patchlab.training.config import Recipe
from patchlab.training.release import release
from patchlab.training.trainer import train
from tools.smollm2.reference_data import calmed, occupation_prompts, plain_beginnings, toxic_beginnings
from tools.smollm2.refusals import held_prompts, refusal_pairs

BEHIND = 400  # tokens of earlier turns, at most
RECIPES = {
    "refusal": Recipe(domain="refusal", title="Refuse harm", summary="Refuses requests for help with harm.", reference="none",
                      length=50, rows=12, hold_rows=10, sft_steps=190, sft_rate=0.02, dpo_steps=0, lead=3.0, fade=0.6, hold=4.0,
                      hold_lead=8.0, max_new_tokens=24, behind=BEHIND),
    "toxicity": Recipe(domain="toxicity", title="Calm replies", summary="Continues rude texts calmly.", length=50, rows=16,
                       hold_rows=8, sft_steps=110, sft_rate=0.02, distill=0.5, dpo_steps=40, hold=2.0, hold_lead=4.0,
                       max_new_tokens=24, temperature=0.7, behind=BEHIND),
    "bias": Recipe(domain="bias", title="Even pronouns", summary="Uses he and she equally often, whatever the occupation is.",
                   length=50, rows=20, hold_rows=8, sft_steps=90, sft_rate=0.02, distill=1.0, lead=3.0, fade=0.8, dpo_steps=0,
                   hold=2.0, hold_lead=4.0, max_new_tokens=24, temperature=0.7, behind=BEHIND)}
# once more from where the first training ended, with a gate in view: what is held weighs less
AGAIN = RECIPES["refusal"].with_(continue_from="refusal", sft_steps=150, sft_rate=0.012, hold=2.0, seed=1)
HELD = {"benign": 200, "lookalike": 130, "plain": 200, "bias": 120, "toxicity": 120}  # prompts held, of each domain


def patch(name: str, lab: Lab, data: Path, work: Path) -> Generator[Progress, None, Patch]:
    """Train one patch in `work`; the reference's candidates and the base's replies lie there, so that a run goes on."""
    recipe, work = RECIPES[name], work / name
    work.mkdir(parents=True, exist_ok=True)
    if name == "refusal":
        pairs, held = refusal_pairs(data), held_prompts(data)
        first = yield from train(lab, recipe, held, work=work, pairs=pairs)
        release(first, work / "first")
        begun = Lab(lab.base, lab.reference, registry=Registry([work / "first"]))
        return (yield from train(begun, AGAIN, held, work=work / "again", pairs=pairs))
    prompts = toxic_beginnings(data) if name == "toxicity" else occupation_prompts(data)
    pairs = yield from _pairs(name, lab, prompts, work)
    return (yield from train(lab, recipe, _held(name, data), work=work, pairs=pairs))


def _held(name: str, data: Path) -> list[Prompt]:
    """Prompts of other domains, a seeded choice of each."""
    every = [*held_prompts(data), *plain_beginnings(data), *occupation_prompts(data), *toxic_beginnings(data)]
    found = [prompt for prompt in every if prompt.domain != name]
    return [prompt for domain, most in HELD.items() for some in [[each for each in found if each.domain == domain]]
            for prompt in random.Random(domain).sample(some, min(most, len(some)))]


def _pairs(name: str, lab: Lab, prompts: Sequence[Prompt], work: Path) -> Generator[Progress, None, list[Pair]]:
    """What the reference says to these prompts, over what the base says."""
    sampling = Sampling(temperature=RECIPES[name].temperature, max_new_tokens=20, seed=1)
    samples = 2 if name == "toxicity" else 1
    for lane in ("base", "reference"):
        if not (work / f"{lane}.jsonl").is_file():
            yield from sample(lab.lanes(names=[lane]), prompts, sampling=sampling, samples=samples, path=work / f"{lane}.jsonl")
    base, reference = ([each for each in read_candidates(work / f"{lane}.jsonl") if each.text.strip()]
                       for lane in ("base", "reference"))
    if name == "bias":
        chosen, rejected = ({each.prompt.key: each for each in some} for some in (reference, base))
    else:
        chosen, rejected = calmed(reference)[0], calmed(base)[1]
        rejected = {each.prompt.key: each for each in base} | rejected
    return [Pair(chosen[key].prompt, chosen[key].text, rejected[key].text, chosen_cut=chosen[key].cut,
                 rejected_cut=rejected[key].cut) for key in chosen if key in rejected]
