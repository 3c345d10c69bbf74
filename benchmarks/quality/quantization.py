"""What is a patch worth on a base in few bits? `python -m benchmarks.quality.quantization [--quick]`

The shipped patches, made on weights as they are, on the pocket models with their layers in 8 and in 4 bits: what each patch
still does, beside base and reference of as many bits; and for a seeded 120 M Llama the memory of its layers and the time of a
decode step. About ten minutes on one core; writes benchmarks/results/quantization.json. It needs bitsandbytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, held_out, write_results
from benchmarks.quality.ablations import QUICK, Reader, Size
from benchmarks.speed.sizes import PROMPT, made, patches
from benchmarks.speed.timing import Figure, race, ratio, say
from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed, load, stream
from patchlab.models import Backbone
from patchlab.models.cpu_kernels import pack
from patchlab.models.quantization import narrow
from tools.pocket.judge import OWN

BITS = (None, 8, 4)
Row = dict[str, Any]


def name_of(bits: int | None) -> str:
    """A width in words."""
    return f"{bits} bits" if bits else "as they are"


def effects(size: Size) -> Iterator[Row]:
    """A row for each patch and width."""
    for bits in BITS:
        lab, reader = load("pocket", device="cpu", bits=bits), Reader(size)
        for each in lab.planner.installed():
            say(f"reading {each.manifest.name}, {name_of(bits)}")
            domain = each.manifest.domain
            figures = reader.figures(lab, domain, beside=())
            own = {f"{lane} rate": _mean(reader.values[lane, OWN[domain]]) for lane in lab.lane_names}
            yield {"group": "What a patch does", "name": f"{each.manifest.name}, {name_of(bits)}", "figures": own | figures}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known)


def costs(label: str, *, repeats: int, tokens: int) -> Iterator[Row]:
    """A row for each width: megabytes of the layers' weights, and a patched reply's time over that of the weights as they are."""
    lanes, sizes = {}, {}
    for bits in BITS:
        backbone = made(label)
        if bits:
            narrow(backbone.model, bits)
        pack(backbone.model)  # what is left of 32 bits, as loading does
        [patch] = patches(backbone, 1)
        plan = StackPlan.of((Bank(backbone).segment([patch]), 1.0))
        lanes[name_of(bits)] = Lane("patched", Scheduler(backbone), fixed(plan))
        sizes[name_of(bits)] = held(backbone)

    def answer(lane: Lane) -> None:
        for _ in stream([lane], [PROMPT], sampling=Sampling(max_new_tokens=tokens)):
            pass

    plain = name_of(None)
    taken = race({name: lambda lane=lane: lambda: answer(lane) for name, lane in lanes.items()}, repeats=repeats)
    for name in lanes:
        found: Figure = ratio(name, taken, name, plain)
        yield {"group": f"What it costs, {label}", "name": name, "figures": {
            "layers MB": sizes[name], "reply / as they are": [found.value, found.low, found.high, found.n]}}


def held(backbone: Backbone) -> float:
    """Megabytes of the weights of the layers, with the scales of narrowed ones."""
    weights = [*backbone.layers.parameters()]
    scales = [getattr(each, "SCB", None) for each in weights]
    scales += [getattr(getattr(each, "quant_state", None), "absmax", None) for each in weights]
    return sum(each.numel() * each.element_size() for each in [*weights, *scales] if each is not None) / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Read, time, print, write; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few prompts and repeats, to see that it runs")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    size, began = QUICK if given.quick else Size(n=100), time.monotonic()
    out = given.out or (None if given.quick else RESULTS / "quantization.json")
    facts = {"quick": given.quick,
             "about": f"`python -m benchmarks.quality.quantization`: {size.n} held-out prompts a domain, temperature 0.8, seed "
                      "0, 95 % bootstrap intervals; each patch at the strength of its manifest; base and reference have as many "
                      "bits as the patched lane. A reply is 16 tokens; medians with quartiles."}
    found: list[Row] = []
    costs_of = costs("tiny", repeats=2, tokens=2) if given.quick else costs("120M", repeats=7, tokens=16)
    for row in (*effects(size), *costs_of):
        found.append(row)
        print(f"{row['group']} | {row['name']} | " + ", ".join(
            f"{k} {v[0] if isinstance(v, list) else v:.3f}" for k, v in row["figures"].items()), flush=True)
    if out:
        write_results(out, facts | {"seconds": round(time.monotonic() - began), "rows": found},
                      command="quality.quantization", prompts=held_out(size.n), n=size.n, seed=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
