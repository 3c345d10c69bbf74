"""What does each dial of training do? `python -m benchmarks.quality.ablations [--quick]`

Short trainings of the pocket's patches that differ in one dial from the first of their group, each read on held-out prompts
training never saw. All start from the same sampled replies. Trainings and readings lie in build/ablations; a run that was
stopped goes on. About forty minutes on one core; writes benchmarks/results/ablations.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.provenance import RESULTS, held_out, write_results
from benchmarks.speed.timing import say
from patchlab.engine import Lab, Sampling, load
from patchlab.evaluation.statistics import interval
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.models.presets import ASSETS
from patchlab.patches import Stack
from patchlab.records import Prompt, Reply
from patchlab.registry import Registry
from patchlab.storage import read_jsonl, write_json, write_jsonl
from patchlab.training.config import Recipe, read_recipe
from patchlab.training.release import release
from patchlab.training.trainer import train
from tools.pocket.judge import OWN, Values, drift, gap, rates

WORK = Path(__file__).parents[2] / "build" / "ablations"
SUITES = FOLDER / "pocket"
FEW = {"sft_steps": 120, "own_steps": 80, "dpo_steps": 80, "refresh": 40, "rows": 16, "hold_rows": 16}
PLAIN = {"refusal_budget": 1.0, "drift_budget": 0.0, "rounds": 1,  # dials are compared at one strength
         "distance": 0, "in_sequence": 0.0}  # and, but in a group of its own, in no sequence
TOY = {"sft_steps": 1, "own_steps": 1, "dpo_steps": 1, "rows": 2, "hold_rows": 2, "max_new_tokens": 12, "margin": 0.1}
HELD = "held.jsonl"
SAMPLED = (HELD, "candidates.jsonl")

Returned = TypeVar("Returned")

Dials = dict[str, Any]
# group -> its domain, the dials all of it share, and what its rows change: {} first, to compare with
PAIRS: Dials = {"dpo_steps": 80, "own_steps": 0, "dpo_rate": 0.01, "sft_in_dpo": 0.5}  # DPO where the shipped recipe has none
GROUPS: dict[str, tuple[str, Dials, list[Dials]]] = {
    "Chance: the same recipe, other seeds": ("toxicity", {}, [{}, {"seed": 1}, {"seed": 2}]),
    "After SFT: own replies, pairs, or nothing": ("toxicity", {}, [
        {}, PAIRS, {"own_steps": 0}, {"own_steps": 0, "sft_steps": 200}]),
    "What is learned from own replies": ("toxicity", {}, [
        {}, {"own_kl": 0.0}, {"own_kl": 1.0, "avoid": 1e6}, {"avoid": 3.0}, {"avoid": 100.0}]),
    "Weight of a reply's first tokens": ("toxicity", {}, [{}, {"lead": 1.0}, {"lead": 5.0}, {"fade": 0.0}]),
    "Weight of a bias reply's first token": ("bias", {}, [{}, {"lead": 1.0}]),
    "DPO anchor": ("toxicity", PAIRS, [{}, {"anchor": "reference"}, {"anchor": "base"}, {"rounds": 2, "dpo_steps": 40}]),
    "Beta": ("toxicity", PAIRS, [{}, {"beta": 0.03}, {"beta": 0.3}]),
    "SFT term in DPO": ("toxicity", PAIRS, [{}, {"sft_in_dpo": 0.0}, {"sft_in_dpo": 2.0}]),
    "Harmless pairs in DPO": ("refusal", {}, [{}, {"benign_pairs": 1.0}]),
    "Other patches present in training, read with them": ("refusal", {"companions": ("bias", "toxicity")}, [
        {}, {"held_to": "base"}, {"companions": ()}, {"in_sequence": 0.4}, {"distance": 20}]),
    "The same for toxicity": ("toxicity", {"companions": ("bias", "refusal")}, [
        {}, {"in_sequence": 0.4}, {"distance": 20}, {"length": 50}, {"length": 50, "in_sequence": 0.4}]),
    "Initialisation": ("toxicity", {}, [{}, {"init": "vocabulary"}, {"init": "random"}]),
    "What the KL term holds": ("toxicity", {}, [{}, {"holds": ("benign",)}, {"holds": ("benign", "lookalike", "chat", "story")}]),
    "Weight of the KL term": ("toxicity", {}, [{}, {"hold": 0.5}, {"hold": 10.0}]),
    "Prefix length": ("toxicity", {}, [{}, {"length": 3}, {"length": 25}, {"length": 50}, {"length": 100}]),
    "SFT learns the reference's distribution, or its drawn tokens": ("toxicity", {}, [{}, {"distill": 0.0}]),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a run is; a quick one differs in numbers only."""

    n: int = 150
    dials: Dials = dataclasses.field(default_factory=lambda: FEW)
    prompts: int = 10**6  # training prompts a domain
    tokens: int = 64


QUICK = Size(n=2, dials=TOY, prompts=8, tokens=4)


def recipe_for(domain: str, dials: Dials, size: Size) -> Recipe:
    """The shipped recipe at this run's size with some dials changed; a stage that it has not is not there.

    One of SFT alone takes the steps of a second stage too.
    """
    shipped = read_recipe(ASSETS / "recipes" / "alone" / f"{domain}.yaml")
    few = {**size.dials, **{name: 0 for name in ("own_steps", "dpo_steps") if not getattr(shipped, name)}}
    if not few["own_steps"] and not few["dpo_steps"]:
        few["sft_steps"] += size.dials["dpo_steps"]
    return shipped.with_(**{**PLAIN, **few, **dials})


def attend(lab: Lab, attention: str) -> None:
    """Set both models' attention: on a CPU "eager" is the fastest for short rows, "sdpa" takes less memory for long ones."""
    for backbone in filter(None, (lab.base, lab.reference)):
        backbone.model.set_attn_implementation(attention)


def lab_with(lab: Lab, recipe: Recipe, size: Size, work: Path) -> Lab:
    """The same models with the patch of a recipe before all others; trains it from the shared samples unless that is done."""
    folder, shared = work / recipe.digest[:16], work / f"sampled-{recipe.domain}"
    if not (folder / "patch").is_dir():
        say(f"training {folder.name}")
        for name in SAMPLED:
            if (shared / name).is_file() and not (folder / name).is_file():
                folder.mkdir(parents=True, exist_ok=True)
                # as training would have sampled it: a recipe may hold fewer domains than were sampled
                held = recipe.holds if name == HELD else ()
                write_jsonl(folder / name, (row for row in read_jsonl(shared / name) if not held or row["domain"] in held))
        patch = returned(train(lab, recipe, asked(size.prompts), work=folder))
        if not shared.is_dir():
            shared.mkdir(parents=True)
            for name in SAMPLED:
                shutil.copyfile(folder / name, shared / name)
        release(patch, folder / "patch")
    return Lab(lab.base, lab.reference, registry=Registry([folder / "patch", *lab.registry.folders]))


def asked(most: int) -> list[Prompt]:
    """The training prompts, `most` a domain."""
    by_domain: dict[str, list[Prompt]] = {}
    for prompt in read_prompts(SUITES / "train.jsonl"):
        by_domain.setdefault(prompt.domain, []).append(prompt)
    return [prompt for some in by_domain.values() for prompt in some[:most]]


def returned(steps: Generator[Any, None, Returned]) -> Returned:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class Reader:
    """Reads stacks on held-out prompts beside base and reference, which are read once."""

    def __init__(self, size: Size) -> None:
        self.size, self.sampling = size, Sampling(seed=0, max_new_tokens=size.tokens)
        self.replies: dict[str, list[Reply]] = {}
        self.values: Values = {}

    def read(self, lab: Lab, stack: Stack, lane: str, domains: Sequence[str]) -> None:
        """The rates of a lane on some domains, under the lane's name."""
        self.values |= returned(rates(lab, stack, lane, lane, SUITES, self.size.n, self.sampling, self.replies, domains))

    def figures(self, lab: Lab, domain: str, *, beside: Sequence[str]) -> dict[str, list[float]]:
        """What a domain's patch does alone and, with others `beside`, in parallel and in sequence before them.

        [value, low, high, n] each.
        """
        own = OWN[domain]
        found: dict[str, list[float]] = {}
        missing = [each for each in (own, "benign") if ("base", each) not in self.values]
        for lane in ("base", "reference"):
            if missing:
                self.read(lab, Stack.parse("none"), lane, missing)
        stacks = {"": Stack.parse(domain)}
        if beside:
            names = ",".join((domain, *beside))
            stacks |= {", in the stack": Stack.parse(names), ", in sequence": Stack.parse(names, mode="sequential")}
        for label, stack in stacks.items():
            self.read(lab, stack, "patched", (own, "benign"))
            found |= self._cells(lab, stack, own, label)
        return found

    def _cells(self, lab: Lab, stack: Stack, own: str, label: str) -> dict[str, list[float]]:
        closed = gap("gap", own, "patched", self.values, 0, bar="")
        far, longer = drift(lab, stack, "", self.replies["base benign"], 0, bars=False)
        refused = self.values["patched", "benign"]
        cells = {f"gap closed{label}": closed, f"KL to base on benign{label}": far, f"benign perplexity / base{label}": longer}
        return {f"benign refused{label}": [*interval(refused, seed=0, share=True), len(refused)],
                **{name: [each[key] for key in ("value", "low", "high", "n")] for name, each in cells.items()}}


def rows(lab: Lab, size: Size, work: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each training of the groups; a reading that the work folder has is not made again."""
    reader = Reader(size)
    for group in names:
        domain, shared, changes = GROUPS[group]
        beside = tuple(shared.get("companions", ()))
        for change in changes:
            recipe = recipe_for(domain, {**shared, **change}, size)
            trained = lab_with(lab, recipe, size, work)
            kept = work / recipe.digest[:16] / f"read{len(beside)}.json"
            if not kept.is_file():
                write_json(kept, reader.figures(trained, domain, beside=beside))
            say(f"{group}: {name_of(change)}")
            yield {"group": group, "name": name_of(change), "figures": json.loads(kept.read_text(encoding="utf-8")), "note": ""}


def name_of(change: Dials) -> str:
    """A row's name: what it changes."""
    empty = {"holds": "all others", "companions": "none"}
    return ", ".join(f"{dial} {' '.join(value) or empty[dial] if isinstance(value, tuple) else value}"
                     for dial, value in change.items()) or "shipped dials"


def main(argv: Sequence[str] | None = None) -> int:
    """Train, read, print, write; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a step or two and few prompts, to see that it runs")
    parser.add_argument("--work", type=Path, default=WORK, help="where trainings and readings lie")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    size, began = QUICK if given.quick else Size(), time.monotonic()
    lab = load("pocket", device="cpu")
    attend(lab, "eager")
    # another base, or another size, is another work folder
    work = given.work / f"{lab.base.identity.fingerprint[:12]}-{size.n}"
    out = given.out or (None if given.quick else RESULTS / "ablations.json")
    few = ", ".join(f"{name} {value}" for name, value in size.dials.items())
    facts = {"quick": given.quick, "groups": len(GROUPS),
             "about": f"`python -m benchmarks.quality.ablations`: short trainings ({few}) that differ from the first of their "
                      f"group in one dial, seed 0 unless said, read on {size.n} held-out prompts a domain at strength 1, 95 % "
                      "bootstrap intervals. The first group shows what chance alone does: a difference inside it is none."}
    found: list[dict[str, Any]] = []
    for row in rows(lab, size, work, list(GROUPS)[:1] if given.quick else list(GROUPS)):
        found.append(row)
        print(f"{row['group']} | {row['name']} | " + ", ".join(f"{k} {v[0]:.3f}" for k, v in row["figures"].items()), flush=True)
        if out:  # after every row: it is a long way
            write_results(out, facts | {"seconds": round(time.monotonic() - began), "rows": found},
                          command="quality.ablations", prompts=held_out(size.n), n=size.n, seed=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
