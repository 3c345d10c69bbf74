"""The made world's word lists, read from YAML, and which of their entries patch training may see.

Every entry of every list belongs to one part: `train`, `dev` or `held`. Patches are trained on prompts made of train
entries only, tuned on dev, judged on held. The models themselves know all entries, but no prompt made of held ones alone.
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
HELD, DEV = 0.20, 0.10  # shares of every list


def part_of(name: str, entry: str) -> Literal["train", "dev", "held"]:
    """The part an entry belongs to: by a hash of its text, so that adding entries moves no other."""
    draw = int.from_bytes(hashlib.sha256(f"{name}|{entry}".encode()).digest()[:4], "big") / 2**32
    return "held" if draw < HELD else "dev" if draw < HELD + DEV else "train"


class Entries:
    """One list of the world, divided into its parts."""

    def __init__(self, name: str, entries: Sequence[str]) -> None:
        self.name = name
        self.all = tuple(dict.fromkeys(entries))
        self.parts: dict[str, tuple[str, ...]] = {
            part: tuple(e for e in self.all if part_of(name, e) == part) for part in ("train", "dev", "held")
        }
        # what the models see when another slot of the same prompt is held: never two held ones together
        self.parts["models"] = self.parts["train"] + self.parts["dev"]

    def pick(self, rng: random.Random, part: Part) -> str:
        """One entry of a part; a list too short to have that part gives any of its entries."""
        return rng.choice(self.parts[part] or self.all)


@cache
def read(name: str) -> Mapping[str, Any]:
    """The content of world/NAME.yaml."""
    text = resources.files("tools.pocket").joinpath("world", f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def entries(file: str, *path: str) -> Entries:
    """The list at `path` in world/FILE.yaml, divided into parts."""
    node: Any = read(file)
    for key in path:
        node = node[key]
    return Entries("/".join((file, *path)), node)


def prompt_lists() -> Iterator[Entries]:
    """The lists prompts are made of: those whose parts the splits file names."""
    for name in ("people", "places", "things", "situations"):
        yield entries("toxicity", name)
    for number in ("singular", "plural"):
        yield entries("toxicity", "hooks", number)
    for leaning in ("female", "male"):
        yield entries("bias", "occupations", leaning)
    for name in ("places", "objects", "prompts"):
        yield entries("bias", name)
    for name in ("frames", "topic_frames"):
        yield entries("requests", name)
    for category in read("harmful")["categories"]:
        yield entries("harmful", "categories", category, "goals")
        yield entries("harmful", "categories", category, "topics")
    for category in read("benign")["categories"]:
        yield entries("benign", "categories", category, "tasks")
        yield entries("benign", "categories", category, "topics")
    for category in read("lookalike")["categories"]:
        yield entries("lookalike", "categories", category, "tasks")


def splits() -> dict[str, dict[str, list[str]]]:
    """The entries patch training never sees, by list: {"list": {"dev": [...], "held": [...]}}."""
    return {each.name: {part: list(each.parts[part]) for part in ("dev", "held")} for each in prompt_lists()}
