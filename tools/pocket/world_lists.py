"""The word lists of the made world, read from YAML, and their split into train, dev and held-out entries.

Patches are trained on prompts built from train entries only, tuned on dev entries and evaluated on held-out ones. The models
are trained on all entries, but never on a prompt whose entries are all held out.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

Part = Literal["train", "dev", "held", "models"]
HELD, DEV = 0.20, 0.10  # fractions of every list


def part_of(name: str, entry: str) -> Literal["train", "dev", "held"]:
    """The part of an entry, by a hash of its text: adding an entry to a list changes the part of no other."""
    fraction = int.from_bytes(hashlib.sha256(f"{name}|{entry}".encode()).digest()[:4], "big") / 2**32
    return "held" if fraction < HELD else "dev" if fraction < HELD + DEV else "train"


class Entries:
    """One word list, split into its parts."""

    def __init__(self, name: str, entries: Sequence[str]) -> None:
        self.name = name
        self.all = tuple(dict.fromkeys(entries))
        self.parts: dict[str, tuple[str, ...]] = {
            part: tuple(e for e in self.all if part_of(name, e) == part) for part in ("train", "dev", "held")}
        # for slots of the models' prompts that are not held out
        self.parts["models"] = self.parts["train"] + self.parts["dev"]

    def pick(self, rng: random.Random, part: Part) -> str:
        """A random entry of a part, or of the whole list when that part is empty."""
        return rng.choice(self.parts[part] or self.all)


@cache
def read(name: str) -> Mapping[str, Any]:
    """The content of world/NAME.yaml."""
    text = resources.files("tools.pocket").joinpath("world", f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def entries(file: str, *path: str) -> Entries:
    """The list at `path` in world/FILE.yaml, split into parts."""
    node: Any = read(file)
    for key in path:
        node = node[key]
    return Entries("/".join((file, *path)), node)


def prompt_lists() -> Iterator[Entries]:
    """The lists that prompts are built from."""
    for path in ("toxicity/people", "toxicity/places", "toxicity/things", "toxicity/situations", "toxicity/hooks/singular",
                 "toxicity/hooks/plural", "bias/occupations/female", "bias/occupations/male", "bias/places", "bias/objects",
                 "bias/prompts", "requests/frames", "requests/topic_frames"):
        yield entries(*path.split("/"))
    for file, names in (("harmful", ("goals", "topics")), ("benign", ("tasks", "topics")), ("lookalike", ("tasks",))):
        for category in read(file)["categories"]:
            for name in names:
                yield entries(file, "categories", category, name)


def splits() -> dict[str, dict[str, list[str]]]:
    """The dev and held-out entries of every list: {"list": {"dev": [...], "held": [...]}}."""
    return {each.name: {part: list(each.parts[part]) for part in ("dev", "held")} for each in prompt_lists()}
