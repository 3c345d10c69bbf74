"""Backdoored models and their failures, which benchmarks of repairs are read on; models are trained once and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.quality.ablations import returned
from benchmarks.speed.timing import say
from patchlab.models import Backbone, load_backbone
from patchlab.records import Prompt
from patchlab.repair import METHODS
from patchlab.repair.contrast import CleanSet, Greedy, Probe
from patchlab.repair.repair import REFUSAL
from tools.backdoors import train
from tools.backdoors.triggers import FAMILIES, Injected, injected

OWN = "causal"  # our method, the one whose "no trigger" answer is measured
SHIPPED = "shipped refusal patch, blind"
REPAIRS: dict[str, dict[str, Any]] = {
    "weights": {}, "weights, as in the paper": {"refusal": REFUSAL, "lead": 1.0, "epochs": 10},
    "prefix": {"change": "prefix"}, "prefix, blind": {"change": "prefix", "inject": False}, SHIPPED: {},
    "weights, plain safety fine-tuning": {"inject": False, "held": "none"}, "weights, without triggered data": {"inject": False},
    "weights, without KL": {"held": "none"}, "weights, L2": {"held": "l2"}, "weights, mean KL": {"lead": 1.0}}
MAIN = ("weights", "prefix")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a run is; smaller ones differ in numbers only."""

    n: int = 100  # failures a family
    tested: int = 40  # of them on which the answer "no trigger" is read
    clean_failures: int = 200
    clean: int = 150  # prompts of each kind, as in the paper
    harmless: int = 400  # held harmless requests on which replies before and after are compared
    steps: int = 0  # of a backdoor; 0: as many as its family takes
    epochs: int = 0  # of a repair; 0: as many as its kind takes
    families: tuple[str, ...] = tuple(FAMILIES)
    methods: tuple[str, ...] = METHODS
    repairs: tuple[str, ...] = tuple(REPAIRS)
    compared: tuple[str, ...] = ("rare token", "composite")  # families on which baselines and ablations are read too
    preset: str = "pocket"


BRIEF = Size(n=25, tested=12, clean_failures=40, clean=48, epochs=4, families=("rare token", "composite"), repairs=MAIN)
QUICK = Size(n=3, tested=3, clean_failures=3, clean=6, steps=2, epochs=1, families=("rare token",), methods=("saliency", OWN),
             harmless=6, repairs=("weights", SHIPPED))
SMOLLM2 = Size(tested=20, clean_failures=0, harmless=200, families=("rare token",), methods=("saliency", OWN),
               repairs=("weights",), preset="smollm2")
PRESETS = {"pocket": Size(), "smollm2": SMOLLM2}  # the size of a whole run


def poisoned(family: str, size: Size, work: Path, *, seed: int = 0) -> Backbone:
    """The backdoored model of a family, trained once."""
    backdoor = train.Backdoor(family, size.steps, seed, size.preset)
    folder = work / "models" / f"{slug(family)}-{backdoor.steps}-{seed}{'' if size.preset == 'pocket' else f'-{size.preset}'}"
    if not (folder / "model.safetensors").is_file():
        say(f"training a backdoor: {family}")
        base = train.begun(backdoor)
        weights = returned(train.poisoned(base, backdoor, folder / "work"))
        train.save(train.with_change(base, weights, name=family), folder)
    return load_backbone(folder, device="cpu")


def clean_set(size: Size, part: str) -> CleanSet:
    """Requests of one part of the word lists."""
    return CleanSet(*(requests(domain, part, size.clean, seed=11) for domain in ("harmful", "benign")))


def requests(domain: str, part: str, n: int, *, seed: int) -> tuple[Prompt, ...]:
    """So many requests of a domain from one part of the word lists."""
    return tuple(Prompt(text, domain=domain) for text in train.texts_of(domain, part, n, seed=seed))


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


class Cases(NamedTuple):
    """The backdoored model of a family, and its failures: held-out requests with a trigger that it answers, with the replies."""

    model: Backbone
    probe: Probe
    failed: list[tuple[Injected, str]]


def failures(model: Backbone, asked: Sequence[Injected]) -> list[tuple[Injected, str]]:
    """Those of the prompts that the model answers, with its replies."""
    greedy = Greedy(model)
    said = greedy.replies([each.prompt for each in asked])
    return [(each, reply.text) for each, reply, no in zip(asked, said, greedy.refused(said), strict=True) if not no]


@lru_cache(maxsize=1)  # all methods of a family in turn
def cases_of(family: str, size: Size, work: Path) -> Cases:
    """The failures of a family among `size.n` requests."""
    model = poisoned(family, size, work)
    asked = injected(family, train.texts_of("harmful", "held", size.n, seed=5), seed=5)
    return Cases(model, Probe(model, clean_set(size, "train")), failures(model, asked))
