"""The engine's speed on a GPU: `python -m benchmarks.speed.gpu [--quick] [--device cuda|cpu] [--out FILE]`

Shapes of Llama-2-7B, Llama-3-8B and Qwen2.5-0.5B with seeded random weights in bf16, made on the device, nothing
downloaded: every race of the CPU benchmarks, the distance of a decode step to the floor that memory bandwidth sets, and a
DPO step's time and peak memory. What does not fit the card's memory is skipped and said so; nothing new begins after
seven minutes. Without a GPU it says so and exits 0. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import copy
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.provenance import RESULTS
from benchmarks.speed import clients, decode, installed, loop, toggle, trio
from benchmarks.speed.sizes import PROMPT, made, patches
from benchmarks.speed.timing import Figure, Side, milliseconds, race, ratio, report, say
from patchlab.engine import Bank, StackPlan, scheduler_of
from patchlab.engine.cuda_graph import PATIENCE
from patchlab.engine.decode import Batch, BatchRow
from patchlab.models import Backbone
from patchlab.records import Pair, Prompt
from patchlab.training.checkpoints import StepLog
from patchlab.training.companions import Companions
from patchlab.training.config import Recipe
from patchlab.training.dataset import Dataset, TrainingExample
from patchlab.training.kl_regularizer import KLRegularizer
from patchlab.training.loop import TrainingContext
from patchlab.training.losses import dpo_steps
from patchlab.training.prefix import PrefixTrainer, initial_prefix

LAST_START = 7 * 60  # seconds after which nothing new begins, so that the whole stays under eight minutes
ORDER = ("Qwen2.5-0.5B", "Llama-2-7B", "Llama-3-8B")
Family = tuple[str, Callable[[], list[Figure]]]


def bandwidth(device: str, *, size: int, repeats: int) -> float:
    """Bytes a second that a large copy reads and writes, the best of the repeats."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    taken = race({"copy": lambda: lambda: target.copy_(source)}, repeats=repeats, device=device)
    return 2 * size / min(taken["copy"])


def floor(backbone: Backbone, label: str, *, rate: float, repeats: int, turns: int) -> list[Figure]:
    """A patched decode step against the time its bytes need: every weight once, keys and values of all it attends to."""
    model, config = backbone.model, backbone.model.config
    segment = Bank(backbone).segment(patches(backbone, 1))
    plan, prompt = StackPlan.of((segment, 1.0)), backbone.encode(PROMPT)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if not config.tie_word_embeddings:  # an input table of its own is read one line a token
        weights -= backbone.embeddings.numel() * backbone.embeddings.element_size()
    keys = segment.size // segment.length * (segment.length + len(prompt) + turns // 2)
    side: Side = lambda: decode.stepping(backbone, plan, turns)  # noqa: E731
    taken = race({"step": side}, repeats=repeats, turns=turns, device=backbone.device)
    least = (weights + keys) / rate
    return [Figure.of(f"{label}: a patched decode step / memory-bandwidth floor ({1000 * least:.3g} ms)",
                      [seconds / turns / least for seconds in taken["step"]])]


def replayed(backbone: Backbone, label: str, *, repeats: int, turns: int) -> list[Figure]:
    """Decode steps replayed as one CUDA graph over those launched kernel by kernel, one row and sixteen, all patched."""
    graphed, found = copy.copy(backbone), []
    graphed.static = True
    plan = StackPlan.of((Bank(backbone).segment(patches(backbone, 1)), 1.0))

    def stepping(engine: Backbone, rows: int) -> Callable[[], object]:
        batch = Batch(engine, [BatchRow(engine.encode(PROMPT), plan)] * rows, room=turns + PATIENCE + 1)
        batch.prefill()
        for _ in range(PATIENCE):  # the graph is recorded in the last of these
            batch.step([5] * rows)
        return lambda: batch.step([5] * rows)

    for rows in (1, 16):
        taken = race({"graph": lambda rows=rows: stepping(graphed, rows), "launches": lambda rows=rows: stepping(backbone, rows)},
                     repeats=repeats, turns=turns, device=backbone.device)
        found.append(ratio(f"{label}: a step of {rows} as one graph / launch by launch", taken, "graph", "launches"))
    return found


def dpo(backbone: Backbone, label: str, *, steps: int, rows: int) -> list[Figure]:
    """A step of patchlab's own DPO with its SFT and KL terms: half `rows` pairs, as many rows held, no checkpointing."""
    recipe = Recipe(domain="toxicity", init="vocabulary", rows=rows, hold_rows=rows, dpo_steps=steps + 2)
    ask = [Prompt(f"{PROMPT.text} Answer {k}.", "continue", "toxicity") for k in range(rows)]
    good, bad = "They haul them out and the town pays for it. " * 4, "Nobody does and nobody ever has, you fool. " * 4
    device = backbone.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(backbone, [TrainingExample(prompt, good) for prompt in ask], rows=rows, seed=0, length=recipe.length)
        context = TrainingContext(
            prefix=PrefixTrainer(backbone, initial_prefix(backbone, recipe)), scheduler=scheduler_of(backbone), recipe=recipe,
            regularizer=KLRegularizer(backbone, data), companions=Companions(backbone, [], seed=0),
            log=StepLog(Path(folder) / "log.jsonl"), folder=Path(folder))
        # the first step also reads what the anchor and the base say, which is kept; the last one saves
        running = dpo_steps(context, [Pair(prompt, good, bad) for prompt in ask[:rows // 2]], backbone)
        taken = race({"step": lambda: lambda: next(running)}, repeats=steps, device=device)
        next(running)
        running.close()  # type: ignore[attr-defined]
    found = [milliseconds(f"{label}: a DPO step of {rows // 2} pairs and {rows} held rows", taken, "step")]
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
        found += [Figure.of(f"{label}: peak memory of a DPO step", [peak / 2**30], unit="GiB"),
                  Figure.of(f"{label}: of it beside the weights", [(peak - before) / 2**30], unit="GiB")]
    return found


def families(base: Backbone, label: str, *, rate: float, quick: bool) -> Iterator[Family]:
    """The races of one shape, the ones that decide first."""
    few, tokens, turns = (2, 2, 2) if quick else (7, 6, 12)
    device, dtype = str(base.device), base.dtype

    def with_reference() -> list[Figure]:
        shape = "tiny" if quick else label
        return trio.measure(base, made(shape, seed=1, device=device, dtype=dtype), label, repeats=few, tokens=4 if quick else 16)

    yield "floor", lambda: floor(base, label, rate=rate, repeats=few, turns=turns)
    yield "decode", lambda: decode.measure(base, label, repeats=few, turns=turns)
    yield "static", lambda: replayed(base, label, repeats=few, turns=turns)
    yield "toggle", lambda: toggle.measure(base, label, repeats=2 if quick else 15)
    yield "dpo", lambda: dpo(base, label, steps=few, rows=4 if quick else 16)
    yield "clients", lambda: clients.measure(base, label, repeats=few, tokens=tokens)
    yield "trio", with_reference
    yield "installed", lambda: installed.measure(base, label, repeats=few, tokens=tokens, most=4 if quick else installed.MOST)
    yield "loop", lambda: loop.measure(base, label, rows=16, patched=True, repeats=few, turns=turns)


def shape_figures(label: str, device: str, *, rate: float, quick: bool, until: float) -> tuple[list[Figure], list[str]]:
    """All figures of one shape, and what was left out and why."""
    found: list[Figure] = []
    left: list[str] = []
    try:
        base = made("tiny" if quick else label, device=device, dtype=torch.bfloat16)
    except torch.OutOfMemoryError:
        return [], [f"{label}: its weights do not fit this card's memory"]
    for family, measured in families(base, label, rate=rate, quick=quick):
        if time.monotonic() > until:
            left.append(f"{label}: {family} not begun, the time was up")
            continue
        say(f"{label}: {family}")
        try:
            found += measured()
        except torch.OutOfMemoryError:
            left.append(f"{label}: {family} does not fit this card's memory")
        _free(device)
    return found, left


def _free(device: str) -> None:
    if torch.device(device).type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where every bar is met, or where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two repeats on tiny shapes, to see that it runs; judges nothing")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is meant for --quick")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return 0
    began = time.monotonic()
    free = torch.cuda.mem_get_info()[0] if given.device == "cuda" else 2**27
    rate = bandwidth(given.device, size=min(2**31, free // 8), repeats=2 if given.quick else 15)
    _free(given.device)
    figures = [Figure.of("bandwidth of a large copy, read and write", [rate / 1e9], unit="GB/s")]
    left: list[str] = []
    for label in ORDER:
        some, gaps = shape_figures(label, given.device, rate=rate, quick=given.quick, until=began + LAST_START)
        figures, left = figures + some, left + gaps
        _free(given.device)
    for gap in left:
        print(f"left out: {gap}")
    facts = {"dtype": "bfloat16", "seconds": round(time.monotonic() - began), "left_out": left}
    return report(figures, facts, name="gpu", quick=given.quick, device=given.device,
                  out=given.out or (None if given.quick else RESULTS / "gpu.json"))


if __name__ == "__main__":
    sys.exit(main())
