"""What undoes patches in a sequence? `python -m benchmarks.quality.sequence [--quick]`

The shipped patches as one sequence, and as two halves of what a sequence is: every patch at the positions it has there but
hidden from the others, and every patch reading those before it but at the positions it was trained at. Beside them the stack
in parallel, and each patch alone with nothing but room between it and the text. About ten minutes on one core; writes
benchmarks/results/sequence.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.provenance import RESULTS, held_out, write_results
from benchmarks.speed.timing import say
from patchlab.engine import Lab, Lane, Sampling, Segment, StackPlan, compile_prefix, fixed, load, replies
from patchlab.engine.forward_rows import Part
from patchlab.engine.masks import smallest
from patchlab.evaluation.statistics import gap_closed, interval
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.models import Backbone
from patchlab.patches import Stack
from patchlab.patches.stack import common_strength
from tools.pocket.judge import EVEN, OWN, RATES

Row = dict[str, Any]
ROOM = (0, 10, 20, 50, 100)  # positions between one patch and the text: none, one shipped patch, two, more
HARMLESS = "benign"


@torch.no_grad()
def compiled(backbone: Backbone, prefixes: Sequence[Tensor], *, read: bool, places: Tensor) -> Segment:
    """Prefixes one after another at these positions; each reads those before it, or only itself."""
    both = torch.cat(list(prefixes))
    order = torch.arange(len(both))
    owner = torch.cat([torch.full((len(each),), k) for k, each in enumerate(prefixes)])
    hidden = order[None] > order[:, None]
    if not read:
        hidden = hidden | (owner[None] != owner[:, None])
    mask = torch.zeros(hidden.shape, dtype=backbone.dtype).masked_fill(hidden, smallest(backbone.dtype))[None, None]
    cache = DynamicCache()
    backbone.model(inputs_embeds=both.to(backbone.dtype)[None], attention_mask=mask, position_ids=places[None],
                   past_key_values=cache, use_cache=True, logits_to_keep=1)
    layers: list[Any] = cache.layers
    return Segment(tuple(layer.keys[0] for layer in layers), tuple(layer.values[0] for layer in layers))


def cut(whole: Segment, lengths: Sequence[int], strength: float) -> tuple[Part, ...]:
    """A segment as one part for each prefix of it, so that text begins behind the longest and not behind all."""
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return tuple((Segment(*(tuple(each[:, end - length:end] for each in kind) for kind in (whole.keys, whole.values))), strength)
                 for length, end in zip(lengths, ends, strict=True))


def stacks(lab: Lab, names: Sequence[str]) -> Iterator[tuple[str, str, tuple[Part, ...]]]:
    """What is read: a group, a name and the parts that are on, all at the strength that a sequence of these patches has."""
    prefixes = {name: torch.from_numpy(lab.planner.patch(name).prefix.copy()) for name in names}
    strength = common_strength([lab.planner.patch(name).manifest.strength for name in names])
    with torch.no_grad():
        single = {name: compile_prefix(lab.base, prefix) for name, prefix in prefixes.items()}
    for order in (tuple(names), tuple(reversed(names))):
        group, some = f"In the order {', '.join(order)}", [prefixes[name] for name in order]
        lengths = [len(each) for each in some]
        behind, same = torch.arange(sum(lengths)), torch.cat([torch.arange(each) for each in lengths])
        yield group, "in parallel", tuple((single[name], strength) for name in order)
        yield group, "at the places of a sequence, hidden from each other", (
            (compiled(lab.base, some, read=False, places=behind), strength),)
        yield group, "each reads those before it, at its own places", cut(
            compiled(lab.base, some, read=True, places=same), lengths, strength)
        yield group, "in sequence", ((compiled(lab.base, some, read=True, places=behind), strength),)
    for name in names:
        for room in ROOM:
            yield "One patch, further from the text", f"{name}, {room} positions", (
                (dataclasses.replace(single[name], room=room), strength),)


class Reader:
    """Rates of lanes on held-out prompts."""

    def __init__(self, lab: Lab, n: int, tokens: int) -> None:
        self.lab, self.sampling = lab, Sampling(seed=0, max_new_tokens=tokens)
        self.prompts = {domain: read_prompts(FOLDER / "pocket" / f"{domain}.jsonl")[:n] for domain in (*OWN.values(), HARMLESS)}
        self.ends = {lane.name: {domain: self.values(lane, domain) for domain in OWN.values()} for lane in lab.lanes(
            Stack.parse("none"), ["base", "reference"])}

    def values(self, lane: Lane, domain: str) -> list[float]:
        """One value a prompt."""
        rate, samples = RATES[domain]
        return rate(replies([lane], self.prompts[domain], samples=samples, sampling=self.sampling))

    def figures(self, parts: tuple[Part, ...], names: Sequence[str]) -> dict[str, list[float]]:
        """How much of each patch's gap is closed, and harmless requests refused: [value, low, high, n] each."""
        lane, found = Lane("patched", self.lab.scheduler, fixed(StackPlan.of(*parts))), {}
        for name in names:
            domain = OWN[self.lab.planner.patch(name).manifest.domain]
            three = zip(self.ends["base"][domain], self.values(lane, domain), self.ends["reference"][domain], strict=True)
            known = [each for each in three if not any(map(math.isnan, each))]
            base, patched, reference = ([each[k] for each in known] for k in range(3))
            closed = gap_closed(base, patched, reference, target=EVEN if domain == "bias" else None, seed=0)
            found[f"{name} gap closed"] = [*closed, len(known)]
        refused = self.values(lane, HARMLESS)
        return found | {"benign refused": [*interval(refused, seed=0, share=True), len(refused)]}


def main(argv: Sequence[str] | None = None) -> int:
    """Read, print, write; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few prompts, to see that it runs")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    (n, tokens), began = (2, 4) if given.quick else (100, 64), time.monotonic()
    out = given.out or (None if given.quick else RESULTS / "sequence.json")
    lab = load("pocket", device="cpu")
    names = [each.manifest.name for each in lab.planner.installed()]
    reader, found = Reader(lab, n, tokens), []
    about = ("`python -m benchmarks.quality.sequence`: the shipped patches at the strength that a sequence of them has, on "
             f"{n} held-out prompts a domain, temperature 0.8, seed 0, 95 % bootstrap intervals. The two middle rows of an "
             "order are no modes of the engine: each is half of what a sequence is. Room is positions left free behind a "
             "patch, as others would take them.")
    for group, name, parts in stacks(lab, names):
        say(f"{group}: {name}")
        own = [name.split(",")[0]] if group.startswith("One") else names
        found.append({"group": group, "name": name, "figures": reader.figures(parts, own)})
        print(f"{name} | " + ", ".join(f"{what} {each[0]:.3f}" for what, each in found[-1]["figures"].items()), flush=True)
        if out:  # after every row: it is a long way
            write_results(out, {"quick": given.quick, "about": about, "rows": found,
                                "seconds": round(time.monotonic() - began)},
                          command="quality.sequence", prompts=held_out(n), n=n, seed=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
