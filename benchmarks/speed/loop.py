"""What does the engine add to a model's own step? `python -m benchmarks.speed.loop [--quick]`

A step of a stream (masks, noise, choice, text) against a bare forward pass of the same rows behind as many tokens, the
library's cache and nothing else around it, both on packed layers: pocket, one row and sixteen (bar 1.05x). Beside it where
the difference goes. Under a minute on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from benchmarks.speed.sizes import LENGTH, PROMPT, Bare, pair, patches, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import BARE, Bank, Lane, Sampling, Scheduler, StackPlan, fixed, stream
from patchlab.engine.decode import Batch, BatchRow
from patchlab.engine.sampler import RowKey, choose
from patchlab.models import Backbone

STREAM, STEP, STOCK, CHOICE = "stream", "batch step", "bare model", "choice"


def measure(backbone: Backbone, label: str, *, rows: int, patched: bool, repeats: int, turns: int,
            bar: str = "<= 1.05") -> list[Figure]:
    """Rows of one prompt, each with noise of its own, all with one patch or none."""
    backbone = served(backbone)
    plan = StackPlan.of((Bank(backbone).segment(patches(backbone, 1)), 1.0)) if patched else BARE
    lane = Lane("lane", Scheduler(backbone), fixed(plan))
    sampling = Sampling(max_new_tokens=turns + 1)
    ids = torch.tensor([backbone.encode(PROMPT)] * rows, device=backbone.device)

    def streaming() -> Callable[[], object]:
        running = stream([lane], [PROMPT], samples=rows, sampling=sampling)
        next(running)
        return lambda: next(running)

    def stepping() -> Callable[[], object]:
        batch = Batch(backbone, [BatchRow(backbone.encode(PROMPT), plan)] * rows, room=turns + 1)
        batch.prefill()
        return lambda: batch.step([5] * rows)

    def bare() -> Callable[[], object]:
        # as many keys as the engine's rows see: the bank's slots stand for that many tokens
        before = ids[:, :1].expand(-1, LENGTH if patched else 0)
        return Bare(backbone.model, torch.cat([before, ids], dim=1))

    def choosing() -> Callable[[], object]:
        logits = torch.randn(rows, backbone.model.config.vocab_size, device=backbone.device)
        keys = [RowKey.of(PROMPT, sample=k, seed=0) for k in range(rows)]
        return lambda: choose(logits, keys, step=1, sampling=sampling)

    taken = race({STREAM: streaming, STEP: stepping, STOCK: bare, CHOICE: choosing}, repeats=repeats, turns=turns,
                 device=backbone.device)
    what = f"{label}, {rows} {'row' if rows == 1 else 'rows'}, {'a patch' if patched else 'no patch'}"
    return [ratio(f"{what}: a step of the stream / bare forward", taken, STREAM, STOCK, bar=bar),
            ratio(f"{what}: a step of the batch alone / bare forward", taken, STEP, STOCK),
            ratio(f"{what}: choosing tokens / bare forward", taken, CHOICE, STOCK),
            milliseconds(f"{what}: bare forward", taken, STOCK, turns=turns)]


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    base = pair("tiny" if quick else "pocket")[0]
    found = []
    for rows, patched in ((1, False), (1, True), (16, True)):
        say(f"{rows} rows")
        found += measure(base, "tiny" if quick else "pocket", rows=rows, patched=patched, repeats=2 if quick else 21,
                         turns=2 if quick else 48)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bar is met."""
    return command(__doc__ or "", "loop", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
