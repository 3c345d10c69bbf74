"""How a ratio is measured here: both sides in one run, turn by turn, so that a machine that slows down slows both.

Knows no models. A figure is a median over repeats with its quartiles and, where a claim was made, the bar beside it, which the
quartile that could fail it has to meet.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import RESULTS, write_results
from patchlab.evaluation.statistics import meets

Side = Callable[[], Callable[[], object]]  # makes ready, untimed; what it returns is timed, once a turn
Taken = Mapping[str, Sequence[float]]  # for each side the seconds of its turns together, one number a repeat


@dataclass(frozen=True, slots=True)
class Figure:
    """A median over `n` repeats with its quartiles `low` and `high`; `met` is None where no bar was set or judged."""

    name: str
    value: float
    low: float
    high: float
    n: int
    unit: str = "x"
    bar: str = ""
    met: bool | None = None

    @classmethod
    def of(cls, name: str, values: Sequence[float], *, unit: str = "x", bar: str = "") -> Figure:
        """The figure of some repeats, judged by `bar`: "<= 1.01" or ">= 8"."""
        middle = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [middle] * 3
        return cls(name, middle, low, high, len(values), unit, bar, meets(bar, low, high) if bar else None)

    def __str__(self) -> str:
        verdict = {True: "met", False: "MISSED", None: "not judged"}[self.met]
        bar = f"  bar {self.bar} {verdict}" if self.bar else ""
        return f"{self.name:<68} {self.value:9.4g} {self.unit:<7} [{self.low:.4g}, {self.high:.4g}] n={self.n}{bar}"


def wait(device: torch.device | str = "cpu") -> None:
    """Let an accelerator finish what it was given; a clock read before that would stop too early."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def race(sides: Mapping[str, Side], *, repeats: int, turns: int = 1, device: torch.device | str = "cpu") -> Taken:
    """Time all sides, one turn of each after the other; who begins changes every turn. One repeat more warms up."""
    names = list(sides)
    taken: dict[str, list[float]] = {name: [] for name in names}
    gc.freeze()  # what is there before the race is not searched again at each repeat
    gc.disable()  # a collection would be charged to whoever happens to run
    try:
        for repeat in range(repeats + 1):
            gc.collect()
            ready: dict[str, Callable[[], object]] = {}
            sums = dict.fromkeys(names, 0.0)
            for turn in range(turns):
                first = (repeat + turn) % len(names)
                for name in names[first:] + names[:first]:
                    if name not in ready:
                        ready[name] = sides[name]()
                    wait(device)
                    began = time.perf_counter()
                    ready[name]()
                    wait(device)
                    sums[name] += time.perf_counter() - began
            if repeat:
                for name in names:
                    taken[name].append(sums[name])
    finally:
        gc.enable()
        gc.unfreeze()
    return taken


def ratio(name: str, taken: Taken, over: str, under: str, *, bar: str = "") -> Figure:
    """Seconds of side `over` in units of side `under`, repeat by repeat."""
    return Figure.of(name, [a / b for a, b in zip(taken[over], taken[under], strict=True)], bar=bar)


def milliseconds(name: str, taken: Taken, side: str, *, turns: int = 1) -> Figure:
    """What a turn of one side takes."""
    return Figure.of(name, [1000 * seconds / turns for seconds in taken[side]], unit="ms")


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def command(about: str, name: str, measure: Callable[[bool], list[Figure]], argv: Sequence[str] | None = None) -> int:
    """A benchmark as a command: measure, print, write; 0 where every bar is met, 1 otherwise."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="two repeats on a tiny model, to see that it runs; judges nothing")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    began = time.monotonic()
    figures = measure(given.quick)
    return report(figures, {"dtype": "float32", "seconds": round(time.monotonic() - began)}, name=name, quick=given.quick,
                  out=given.out or (None if given.quick else RESULTS / f"{name}.json"))


def report(figures: Sequence[Figure], facts: dict[str, Any], *, name: str, quick: bool, out: Path | None,
           device: str = "cpu") -> int:
    """Print every figure beside its bar and write them with `facts`; 0 where every bar is met, 1 otherwise."""
    if quick:
        figures = [dataclasses.replace(figure, met=None) for figure in figures]
    for figure in figures:
        print(figure)
    if out:
        write_results(out, {**facts, "quick": quick, "figures": [dataclasses.asdict(figure) for figure in figures]},
                      command=f"speed.{name}", n="each figure's own", device=device)
    return 1 if any(figure.met is False for figure in figures) else 0
