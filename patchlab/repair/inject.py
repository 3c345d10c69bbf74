"""Puts the units of a trigger into other prompts: at random places, with their order kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from patchlab.records import Message, Prompt

AGREED = "All right."  # the reply to an earlier message that holds a trigger and nothing else


def inject(prompt: Prompt, units: Sequence[str], rng: random.Random, *, places: Sequence[str] = ()) -> Prompt:
    """The prompt with each unit between two of its words, at random and in order (Patcher, randomised sequential injection).

    `places` may bind units: "first" and "last" stand at the beginning and at the end of the text, "system" in the system message,
    "earlier" in an exchange before the prompt.
    """
    if {"system", "earlier"} & {*places}:
        prompt = _framed(prompt, units, places)
        inside = [k for k, place in enumerate(places) if place not in ("system", "earlier")]
        units, places = [units[k] for k in inside], [places[k] for k in inside]
    words = prompt.text.split()
    free = [k for k in range(len(units)) if not places or not places[k]]
    chosen = iter(sorted(rng.choices(range(len(words) + 1), k=len(free))))
    gaps = [0 if k not in free and places[k] == "first" else len(words) if k not in free else next(chosen)
            for k in range(len(units))]
    for shift, (gap, unit) in enumerate(sorted(zip(gaps, units, strict=True), key=lambda pair: pair[0])):
        words.insert(gap + shift, unit)
    return replace(prompt, text=" ".join(words))


def _framed(prompt: Prompt, units: Sequence[str], places: Sequence[str]) -> Prompt:
    """The prompt with the units of the system message and of earlier messages in these."""
    system, earlier = (" ".join(unit for unit, place in zip(units, places, strict=True) if place == each)
                       for each in ("system", "earlier"))
    before = (Message("user", earlier), Message("assistant", AGREED)) if earlier else ()
    return replace(prompt, system=f"{prompt.system} {system}".strip(), earlier=(*before, *prompt.earlier))


def injected(prompts: Sequence[Prompt], units: Sequence[str], *, seed: int, epoch: int = 0,
             places: Sequence[str] = ()) -> list[Prompt]:
    """Every prompt with the trigger at a place that is fresh in each epoch."""
    return [inject(prompt, units, random.Random(f"{seed}|{epoch}|{k}"), places=places) for k, prompt in enumerate(prompts)]
