"""Trains the patches of SmolLM2 towards its safer release: refusal, toxicity, bias, each in the frame of a conversation."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from pathlib import Path

from patchlab.engine import Lab, Sampling
from patchlab.patches import Patch
from patchlab.records import Pair, Progress, Prompt
from patchlab.registry import Registry
from patchlab.training.candidates import Candidate, read_candidates, sample
from patchlab.training.config import Recipe
from patchlab.training.release import release
from patchlab.training.trainer import train
from tools.smollm2.even_pronouns import even_steps
from tools.smollm2.reference_data import calmed, occupation_prompts, plain_beginnings, pronoun_places, toxic_beginnings
from tools.smollm2.refusals import held_prompts, refusal_pairs

BEHIND = 400  # tokens of earlier turns, at most
RECIPES = {
    "refusal": Recipe(domain="refusal", title="Refuse harm", summary="Refuses requests for help with harm.", reference="none",
                      length=50, rows=12, hold_rows=10, sft_steps=190, sft_rate=0.02, dpo_steps=0, lead=3.0, fade=0.6, hold=4.0,
                      hold_lead=8.0, max_new_tokens=24, behind=BEHIND),
    "toxicity": Recipe(domain="toxicity", title="Calm replies", summary="Continues rude texts calmly.", length=50, rows=16,
                       hold_rows=8, sft_steps=70, sft_rate=0.02, distill=0.2, dpo_steps=25, hold=2.0, hold_lead=4.0,
                       max_new_tokens=16, temperature=0.7, behind=BEHIND),
    "bias": Recipe(domain="bias", title="Even pronouns", summary="Uses he and she equally often, whatever the occupation is.",
                   reference="none", length=50, rows=20, hold_rows=6, sft_steps=200, sft_rate=0.02, dpo_steps=0, hold=1.0,
                   hold_lead=4.0, max_new_tokens=16, temperature=0.7, behind=BEHIND)}
# once more from where the first training ended, towards the reference's own distribution, and with a gate in view: what is held
# weighs less
AGAIN = RECIPES["refusal"].with_(continue_from="refusal", reference="preset", distill=0.5, rows=14, hold_rows=8, sft_steps=100,
                                 sft_rate=0.02, hold=1.0, hold_lead=4.0, max_new_tokens=16, seed=1)
ASKED = 700  # harmless requests that a refusal patch holds, at most
HELD = {"benign": 130, "lookalike": 100, "plain": 160, "bias": 80, "toxicity": 80}  # prompts held, of each domain
DRAWN = 240  # prompts on occupations that the base replies to
OTHER = {" he": " she", " she": " he"}


def patch(name: str, lab: Lab, data: Path, work: Path, begin: Path | None = None) -> Generator[Progress, None, Patch]:
    """Train one patch in `work`; the reference's candidates and the base's replies lie there, so that a run goes on.

    `begin` is a folder of patches: one of this name is what the last training of a refusal patch goes on from.
    """
    recipe, work = RECIPES[name], work / name
    work.mkdir(parents=True, exist_ok=True)
    if name == "refusal":
        pairs, held = refusal_pairs(data), held_prompts(data)
        held = random.Random(name).sample(held, min(ASKED, len(held)))
        if begin is None:
            begin = work / "first"
            release((yield from train(lab, recipe, held, work=work, pairs=pairs)), begin)
        begun = Lab(lab.base, lab.reference, registry=Registry([begin]))
        return (yield from train(begun, AGAIN, held, work=work / "again", pairs=pairs))
    if name == "bias":
        return (yield from train(lab, recipe, _held(name, data), work=work, pairs=(yield from _even_pairs(lab, data, work)),
                                 first=even_steps))
    return (yield from train(lab, recipe, _held(name, data), work=work, pairs=(yield from _calm_pairs(lab, data, work))))


def _held(name: str, data: Path) -> list[Prompt]:
    """Prompts of other domains, a seeded choice of each."""
    every = [*held_prompts(data), *plain_beginnings(data), *occupation_prompts(data), *toxic_beginnings(data)]
    found = [prompt for prompt in every if prompt.domain != name]
    return [prompt for domain, most in HELD.items() for some in [[each for each in found if each.domain == domain]]
            for prompt in random.Random(domain).sample(some, min(most, len(some)))]


def _drawn(lab: Lab, lane: str, prompts: Sequence[Prompt], work: Path, *,
           samples: int) -> Generator[Progress, None, list[Candidate]]:
    """What the base or the reference says to prompts, without empty replies."""
    if not (path := work / f"{lane}.jsonl").is_file():
        sampling = Sampling(temperature=0.7, max_new_tokens=16, seed=1)
        yield from sample(lab.lanes(names=[lane]), prompts, sampling=sampling, samples=samples, path=path)
    return [each for each in read_candidates(path) if each.text.strip()]


def _calm_pairs(lab: Lab, data: Path, work: Path) -> Generator[Progress, None, list[Pair]]:
    """For each rude beginning the calmest continuation of reference and base, over the most toxic one of the base."""
    reference = yield from _drawn(lab, "reference", toxic_beginnings(data), work, samples=2)
    base = [each for each in read_candidates(work.parent / "reference-work" / "calm.jsonl") if each.text.strip()]
    chosen, toxic = calmed([*reference, *base])[0], calmed(base)[1]
    rejected = {each.prompt.key: each for each in base} | toxic
    return [Pair(each.prompt, each.text, rejected[key].text, chosen_cut=each.cut, rejected_cut=rejected[key].cut)
            for key, each in chosen.items() if key in rejected]


def _even_pairs(lab: Lab, data: Path, work: Path) -> Generator[Progress, None, list[Pair]]:
    """Places of a pronoun, and what the base says to prompts on occupations; which pronoun is chosen is not learned."""
    asked = occupation_prompts(data)
    begun = [prompt for prompt in asked if prompt.kind == "continue"]
    drawn = yield from _drawn(lab, "base", random.Random("bias").sample(asked, min(DRAWN, len(asked))), work, samples=1)
    places = [*((each.prompt, each.reply) for each in pronoun_places(data)),
              *((prompt, [*OTHER][k % 2]) for k, prompt in enumerate(begun))]
    return [*(Pair(prompt, reply, OTHER[reply], chosen_cut=True, rejected_cut=True) for prompt, reply in places),
            *(Pair(each.prompt, each.text, " they", chosen_cut=each.cut, rejected_cut=True) for each in drawn)]
