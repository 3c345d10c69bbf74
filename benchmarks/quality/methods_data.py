"""What all methods of benchmarks/quality/methods.py learn from: sampled once, cut to whole batches, dealt to all in one order."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patchlab.engine import Lane, Sampling, scheduler_of
from patchlab.engine.likelihood import Texts, encode_texts
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.models import Backbone, load_backbone, preset
from patchlab.models.presets import ASSETS
from patchlab.records import Prompt
from patchlab.storage import write_json
from patchlab.training.calibration import set_aside
from patchlab.training.candidates import read_candidates, sample, write_candidates
from patchlab.training.config import IMPROVES, Recipe, read_recipe
from patchlab.training.dataset import Dataset, TrainingExample
from patchlab.training.losses import PairBatches
from patchlab.training.preference_data import make_pairs, stored_pairs, write_pairs

SUITES = FOLDER / "pocket"
FILES = ("held.jsonl", "candidates.jsonl", "pairs.jsonl")  # what a training finds in its work folder and does not make again


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """How big a comparison is; a quick one differs in numbers only."""

    domain: str = "toxicity"  # or "refusal"
    n: int = 300  # held-out prompts a domain
    prompts: int = 600  # training prompts of the domain, of which about a tenth gives the rows a loss is read on
    others: int = 200  # training prompts of each other domain, for what ours holds
    sft_steps: int = 240
    dpo_steps: int = 120
    rows: int = 24
    pilot_steps: int = 40  # SFT steps a learning rate is tried with
    prefix_rates: tuple[float, ...] = (0.02, 0.04)
    lora_rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    race_steps: int = 20
    repeats: int = 9
    tokens: int = 64
    seed: int = 0

    @property
    def sampling(self) -> Sampling:
        """How every reply is drawn."""
        return Sampling(seed=self.seed, max_new_tokens=self.tokens)

    @property
    def shipped(self) -> Recipe:
        """The recipe that comes with PatchLab, at this comparison's steps and rows and at strength 1.

        Where its second stage is on-policy, that takes the steps others have for DPO.
        """
        found = self._recipe(asdict(read_recipe(ASSETS / "recipes" / "alone" / f"{self.domain}.yaml")))
        if not found.own_steps:
            return found
        return found.with_(own_steps=found.dpo_steps, dpo_steps=0, refresh=min(found.refresh, 40))

    def plain(self, rate: float, *, dpo_steps: int | None = None, sft_steps: int | None = None) -> Recipe:
        """A recipe with nothing that peft + trl lack: drawn tokens as targets, no KL term; DPO at half SFT's rate."""
        return self._recipe({"domain": self.domain, "distill": 0.0, "hold": 0.0, "sft_in_dpo": self.shipped.sft_in_dpo,
                             "sft_rate": rate, "dpo_rate": rate / 2, "reference": "none"}, sft_steps, dpo_steps)

    def _recipe(self, own: dict[str, Any], sft_steps: int | None = None, dpo_steps: int | None = None) -> Recipe:
        return Recipe(**own | {
            "rows": self.rows, "hold_rows": self.rows, "rounds": 1, "refusal_budget": 1.0, "drift_budget": 0.0,
            "seed": self.seed, "max_new_tokens": self.tokens,
            "sft_steps": sft_steps or self.sft_steps, "dpo_steps": self.dpo_steps if dpo_steps is None else dpo_steps})


QUICK = Dials(n=4, prompts=40, others=2, sft_steps=2, dpo_steps=2, rows=4, pilot_steps=1, prefix_rates=(0.02,),
              lora_rates=(0.003,), race_steps=1, repeats=1, tokens=6)


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One row as token ids: a prompt, the reply to learn and, in a pair, the reply to leave."""

    prompt: list[int]
    reply: list[int]
    rejected: list[int] | None = None


class Data:
    """The files in a work folder, and the batches ours takes from them, for others to take in the same order."""

    def __init__(self, folder: Path, dials: Dials, base: Backbone) -> None:
        self.folder, self.dials, self.base = folder, dials, base
        self.recipe = dials.plain(dials.prefix_rates[0])

    @property
    def prompts(self) -> Path:
        """All training prompts."""
        return SUITES / "train.jsonl"

    def give(self, work: Path) -> Path:
        """Put the files into a training's new work folder."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(self.folder / name, work / name)
        return work

    def sft(self, steps: int) -> list[EncodedRow]:
        """The rows of so many SFT steps, step by step."""
        learn = [c for c in read_candidates(self.folder / "candidates.jsonl") if c.lane == "reference"]
        data = Dataset(self.base, [TrainingExample(c.prompt, c.text, c.cut) for c in learn], rows=self.recipe.rows,
                       seed=self.recipe.seed, length=self.recipe.length)
        return [each for step in range(steps) for each in encoded_rows(data.batch(step)[1])]

    def dpo(self, steps: int) -> list[EncodedRow]:
        """The pairs of so many DPO steps, step by step."""
        batches = PairBatches(self.base, stored_pairs(self.folder / "pairs.jsonl"), self.base, rows=self.recipe.rows // 2,
                              seed=self.recipe.seed)
        neighbours = [encoded_rows(batches.batches[batches.at(step)]) for step in range(steps)]
        return [EncodedRow(a.prompt, a.reply, b.reply) for some in neighbours for a, b in zip(some[::2], some[1::2], strict=True)]

    def held(self) -> list[Texts]:
        """The reference's safe replies to prompts nobody trains on, in batches."""
        return self._batches("losses")

    def others(self) -> list[Texts]:
        """The base's own replies to the prompts of other domains, in batches."""
        return self._batches("held")

    def _batches(self, name: str) -> list[Texts]:
        said = [c for c in read_candidates(self.folder / f"{name}.jsonl") if c.text]
        batches = [said[at:at + self.dials.rows] for at in range(0, len(said), self.dials.rows)]
        return [encode_texts(self.base, [c.prompt for c in some], [c.text for c in some], cut=[c.cut for c in some])
                for some in batches]


def encoded_rows(texts: Texts) -> list[EncodedRow]:
    """The rows of a padded batch, each without its padding."""
    found = []
    for ids, predicts in zip(texts.ids.tolist(), texts.predicts.tolist(), strict=True):
        first, last = predicts.index(True) + 1, len(predicts) - predicts[::-1].index(True)
        found.append(EncodedRow(ids[:first], ids[first:last + 1]))
    return found


def sample_once(root: Path, dials: Dials) -> Path:
    """Sample, score and pair what all methods learn from, unless that was done before; returns the folder of the files.

    Only whole batches are kept, so that a step has the same rows whoever deals them.
    """
    base, reference = (load_backbone(preset("pocket").source(lane), device="cpu", kernels=False)
                       for lane in ("base", "reference"))
    made_from = json.dumps([asdict(dials), base.identity.fingerprint, reference.identity.fingerprint])
    folder = root / hashlib.sha256(made_from.encode()).hexdigest()[:12]
    if (folder / "data.json").is_file():
        return folder
    domain, others = _prompts(dials)
    lanes = [Lane("base", scheduler_of(base)), Lane("reference", scheduler_of(reference))]
    for some, prompts, samples, name in ((lanes[:1], others, 1, "held"), (lanes, domain, dials.shipped.samples, "all")):
        for _ in sample(some, prompts, sampling=dials.sampling, samples=samples, path=folder / f"{name}.jsonl"):
            pass
    write_json(folder / "data.json", _divide(folder, domain, dials))
    return folder


def _prompts(dials: Dials) -> tuple[list[Prompt], list[Prompt]]:
    """The training prompts of the domain, and of all others."""
    by_domain: dict[str, list[Prompt]] = {}
    for prompt in read_prompts(SUITES / "train.jsonl"):
        by_domain.setdefault(prompt.domain, []).append(prompt)
    domain = by_domain.pop(IMPROVES[dials.domain][0])[:dials.prompts]
    return domain, [prompt for some in by_domain.values() for prompt in some[:dials.others]]


def _divide(folder: Path, domain: list[Prompt], dials: Dials) -> dict[str, int]:
    """Write the rows to learn, the pairs, and the rows that losses are read on; returns how many there are."""
    recipe = dials.shipped
    train = {prompt.key for prompt in set_aside(domain)[0]}
    found = read_candidates(folder / "all.jsonl")
    safe = [c for c in found if c.lane == "reference" and c.text and c.score <= recipe.winner]
    learn = [c for c in safe if c.prompt.key in train]
    learn = learn[:len(learn) // dials.rows * dials.rows]
    write_candidates(folder / "candidates.jsonl", learn)
    losses = [c for c in safe if c.prompt.key not in train]
    write_candidates(folder / "losses.jsonl", losses)
    pairs, _ = make_pairs([c for c in found if c.prompt.key in train], margin=recipe.margin, winner=recipe.winner)
    pairs = pairs[:len(pairs) // (dials.rows // 2) * (dials.rows // 2)]
    write_pairs(folder / "pairs.jsonl", pairs)
    return {"SFT rows": len(learn), "DPO pairs": len(pairs), "rows losses are read on": len(losses)}
