"""Trains the families of benchmarks/quality/stacks.py, each patch once; whatever lies in the work folder is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.ablations import returned
from benchmarks.quality.stacks_family import GROUPS, POLICIES, Policy, prompts
from benchmarks.speed.timing import say
from patchlab.engine import Lab, Lane, Sampling, scheduler_of
from patchlab.models import Backbone
from patchlab.models.presets import ASSETS
from patchlab.patches import Manifest, Patch
from patchlab.records import Pair, Prompt
from patchlab.registry import Registry
from patchlab.training.candidates import Candidate, read_candidates, sample, write_candidates
from patchlab.training.config import Recipe
from patchlab.training.gates import fit_gate
from patchlab.training.release import release
from patchlab.training.trainer import train

LEARNED = ("toxicity", "bias", "drugs", "personal", "harmful")  # groups whose reference replies are learned
KIT = 8  # neutral companions
KEPT = 0.0  # share of other dev prompts for which a gate may be on beyond what recall asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How big a run is; a quick one differs in numbers only."""

    sizes: tuple[int, ...] = (2, 4, 8, 16)
    n: int = 144  # held-out prompts a group, where there are so many
    prompts: int = 160  # training prompts a group
    steps: int = 150
    rounds: tuple[int, ...] = (150, 150, 300)  # steps with companions; in each round all meet what the others had become
    further: int = 3  # rounds more, at most, for those that still lose
    rows: int = 16
    tokens: int = 64
    seed: int = 0
    length: int = 10  # P, that of the patches that come with PatchLab

    @property
    def sampling(self) -> Sampling:
        """How all replies are drawn."""
        return Sampling(seed=self.seed, max_new_tokens=self.tokens)

    @property
    def digest(self) -> str:
        """What trainings and readings depend on."""
        return short(asdict(self))


QUICK = Plan(sizes=(2, 3), n=2, prompts=3, steps=1, rounds=(1,), further=1, rows=2, tokens=4)


class Said:
    """What base and reference say to the training prompts, drawn once for all trainings."""

    def __init__(self, lab: Lab, plan: Plan, folder: Path) -> None:
        self.lab, self.plan, self.folder = lab, plan, folder

    @cached_property
    def prompts(self) -> dict[str, list[Prompt]]:
        """The training prompts of each group."""
        return {group: prompts(group, self.plan.prompts, part="train", seed=self.plan.seed) for group in GROUPS}

    @cached_property
    def base(self) -> list[Candidate]:
        """One reply of the base to every training prompt."""
        return self._drawn("base", self.lab.base, [p for some in self.prompts.values() for p in some])

    @cached_property
    def reference(self) -> list[Candidate]:
        """The reference's replies to prompts of the groups where they are learned."""
        assert self.lab.reference is not None  # the pocket preset has one
        return self._drawn("reference", self.lab.reference, [p for group in LEARNED for p in self.prompts[group]])

    def _drawn(self, lane: str, backbone: Backbone, asked: Sequence[Prompt]) -> list[Candidate]:
        path = self.folder / f"{lane}.jsonl"
        if not path.is_file():
            say(f"sampling {len(asked)} replies of the {lane}")
            lanes = [Lane(lane, scheduler_of(backbone))]
            for _ in sample(lanes, asked, sampling=self.plan.sampling, samples=1, path=path):
                pass
        return read_candidates(path)

    def pairs(self, policy: Policy) -> list[Pair]:
        """What a policy's patch is to say over what the base says: by its rule, or as the reference does."""
        mine = [c for c in self.base if c.prompt.domain in policy.improves and c.text]
        if policy.rule:
            ruled = [(c, policy.rule(c.text)) for c in mine]
            # a rule that drops a reply's end also drops where the length limit cut it
            return [Pair(c.prompt, chosen, c.text, chosen_cut=c.cut and chosen.endswith(c.text), rejected_cut=c.cut)
                    for c, chosen in ruled]
        better = {c.prompt.key: c for c in self.reference if c.text}
        return [Pair(c.prompt, better[c.prompt.key].text, c.text, chosen_cut=better[c.prompt.key].cut, rejected_cut=c.cut)
                for c in mine if c.prompt.key in better]


class Workshop:
    """Trains patches into families: folders of patches of the same names, made in different company."""

    def __init__(self, lab: Lab, plan: Plan, work: Path) -> None:
        self.lab, self.plan, self.work = lab, plan, work
        self.said = Said(lab, plan, work / "said")
        self.folders: dict[str, dict[str, Path]] = {}  # family -> patch -> where it lies

    def family(self, *names: str) -> Lab:
        """The models with the patches of families."""
        folders = [folder for name in names for folder in self.folders.get(name, {}).values()]
        return Lab(self.lab.base, self.lab.reference, registry=Registry(folders))

    def apart(self, names: Sequence[str]) -> Lab:
        """Every patch trained alone, by vendors who never met; the three that come with PatchLab are taken as they are."""
        for name in names:
            if POLICIES[name].shipped:
                self.folders.setdefault("apart", {})[name] = ASSETS / "patches"
            else:
                self._train("apart", recipe(POLICIES[name], self.plan, steps=self.plan.steps), self.lab)
        return self.family("apart")

    def together(self, names: Sequence[str]) -> Lab:
        """Every patch trained on with others present at random, however many, in rounds."""
        met = self.apart(names)
        for number in range(len(self.plan.rounds)):
            met = self.round(names, names, met, number)
        return met

    def subsets(self, names: Sequence[str]) -> Lab:
        """As MOSAIC trains (arXiv 2603.16210): random subsets, every number of patches as often, concatenated in random order.

        There all patches learn at once and start anew; here one after another, in as many rounds as those that live together.
        """
        met = self.apart(names)
        for number in range(len(self.plan.rounds)):
            met = self.round(names, names, met, number, family="subsets", in_sequence=1.0)
        return met

    def round(self, some: Sequence[str], names: Sequence[str], met: Lab, number: int, *, family: str = "together",
              **dials: Any) -> Lab:
        """Some of the patches trained on beside the others as the last round left them; later rounds are as long as the last.

        Not with those that change the same prompts as it does: where one of them is on, there is nothing left to learn.
        """
        steps = self.plan.rounds[min(number, len(self.plan.rounds) - 1)]
        for name in some:
            mine = POLICIES[name].improves
            others = tuple(other for other in names if not set(mine) & set(POLICIES[other].improves))
            made = recipe(POLICIES[name], self.plan, steps=steps, continue_from=name, companions=others, presence="number",
                          **dials)
            self._train(family, made.with_(seed=made.seed + 10 * number), met)
        return self.family(family)

    def practised(self, names: Sequence[str]) -> Lab:
        """Every patch trained on by its own vendor with neutral companions that stand for patches it has never met."""
        self.apart(names)
        kit = tuple(f"neutral-{number}" for number in range(KIT))
        for number, name in enumerate(kit):
            self.folders.setdefault("kit", {})[name] = self.work / "kit" / name
            if not (self.work / "kit" / name).is_dir():
                release(_neutral(self.lab.base, name, self.plan.length, 1000 + number), self.work / "kit" / name)
        room = self.family("apart", "kit")
        for name in names:
            self._train("practised", recipe(POLICIES[name], self.plan, steps=self.plan.rounds[0], continue_from=name,
                                            companions=kit, presence="number"), room)
        return self.family("practised")

    def gated(self, family: str) -> Lab:
        """A family with a gate for each patch, fitted on training prompts: those it is for against all others.

        Where many patches meet, one that is on for a prompt it is not for is somebody's neighbour: none of the others' dev
        prompts is to keep it on.
        """
        dev = [prompt for some in self.said.prompts.values() for prompt in some[1::4]]
        train = [prompt for some in self.said.prompts.values() for prompt in some if prompt not in dev]
        made, gates = self.family(family), {}
        for each in made.planner.installed():
            patch, improves = made.planner.patch(each.manifest.name), POLICIES[each.manifest.name].improves
            folder = self.work / "gated" / short([patch.digest, improves, KEPT])
            self.folders.setdefault(f"gated {family}", {})[each.manifest.name] = folder
            if folder.is_dir():
                continue
            if improves not in gates:
                say(f"fitting a gate for {each.manifest.name}")
                gates[improves] = returned(fit_gate(made.base, patch.manifest.domain, train, dev, improves=improves,
                                                    kept=KEPT)).gate
            release(replace(patch, gate=gates[improves]), folder)
        return self.family(f"gated {family}")

    def joint(self, names: Sequence[str]) -> Lab:
        """One patch trained once for all that these patches do, in as many steps as half of them would take."""
        policies = [POLICIES[name] for name in names]
        improves = tuple(dict.fromkeys(group for policy in policies for group in policy.improves))
        whole = Policy(name=f"joint-{len(names)}", improves=improves, about="all of them", lead=6.0,
                       instruction="You are a careful and polite assistant. Keep to the rules of the house.")
        pairs = {(pair.prompt.key, pair.chosen): pair for policy in policies for pair in self.said.pairs(policy)}
        steps = max(1, self.plan.steps * len(names) // 2)
        made = recipe(whole, self.plan, steps=steps).with_(distill=0.0)
        self._train("joint", made, self.lab, list(pairs.values()))
        return self.family("joint")

    def _train(self, family: str, made: Recipe, room: Lab, pairs: Sequence[Pair] | None = None) -> None:
        """Train a patch of a family, unless that was done by the same recipe in the same company."""
        name = made.patch_name
        company = [room.planner.patch(each).digest for each in (*made.companions, made.continue_from) if each]
        folder = self.work / family / f"{name}-{short([made.digest, *company])}"
        self.folders.setdefault(family, {})[name] = folder / "patch"
        if (folder / "patch").is_dir():
            return
        say(f"training {family} {name}")
        policy = POLICIES.get(name)
        if pairs is None and policy and not policy.domain:
            pairs = self.said.pairs(policy)
        given = {"held": [c for c in self.said.base if c.prompt.domain not in made.improved],
                 "candidates": [c for c in self.said.reference if c.prompt.domain in made.improved]}
        for file, rows in given.items():
            if not (folder / f"{file}.jsonl").is_file():
                write_candidates(folder / f"{file}.jsonl", rows)
        asked = [prompt for some in self.said.prompts.values() for prompt in some]
        release(returned(train(room, made, asked, pairs=pairs, work=folder)), folder / "patch")


def _neutral(base: Backbone, name: str, length: int, seed: int) -> Patch:
    """A prefix that means nothing: random words behind the opening token."""
    table = base.embeddings.detach().float().cpu()
    words = table[torch.randint(table.shape[0], (length,), generator=torch.Generator().manual_seed(seed))]
    words[0] = table[base.tokenizer.bos_token_id or 0]
    manifest = Manifest(name=name, version="1.0.0", title="Neutral", summary="Random words.", domain="neutral",
                        base=base.identity, reference="none", length=len(words), width=base.width, licence="Apache-2.0")
    return Patch(manifest, words.numpy())


def short(content: Any) -> str:
    """A short name for what JSON can hold."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def recipe(policy: Policy, plan: Plan, *, steps: int, **dials: Any) -> Recipe:
    """The recipe of a policy's patch: every other group held; SFT only, but against toxicity mostly on-policy."""
    second, own = policy.name.endswith("-b"), 2 * steps // 3 if policy.domain == "toxicity" else 0
    return Recipe(**{"domain": policy.domain or policy.name, "name": policy.name, "improves": policy.improves,
                     "title": policy.name, "summary": f"Made for {policy.about}.", "seed": plan.seed + second,
                     "init_text": policy.instruction, "distill": 0.0 if policy.rule else 1.0, "lead": policy.lead,
                     "sft_steps": steps - own, "sft_rate": 0.02, "own_steps": own, "dpo_steps": 0, "rows": plan.rows,
                     "hold_rows": plan.rows, "hold": 5.0, "hold_lead": 10.0, "winner": 0.5, "length": plan.length, **dials})


__all__ = ["QUICK", "Plan", "Said", "Workshop", "recipe", "short"]
