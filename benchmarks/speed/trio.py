"""Is the trio faster than its three models asked in turn? `python -m benchmarks.speed.trio [--quick]`

Base, patched and reference streamed to 64 tokens as text, against three `generate` calls one after another for the same
prompt: the base, the base under PEFT's prompt tuning, the reference (bars 0.5x pocket, 0.7x 120 M). The library runs on stock
layers, the engine on its own, which it packs on a CPU. Beside it the floor: the forward passes that any trio takes, two rows of
the base and one of the reference a token, bare and on the engine's layers. About three minutes on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from benchmarks.speed.sizes import LENGTH, PROMPT, Bare, generate, pair, patches, prompt_tuned, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed, stream
from patchlab.models import Backbone

STREAM, CALLS, FLOOR = "trio streamed", "three generate calls", "bare forwards"
BARS = {"pocket": "<= 0.5", "120M": "<= 0.7"}


def measure(base: Backbone, reference: Backbone, label: str, *, repeats: int, tokens: int,
            bar: str = BARS["120M"]) -> list[Figure]:
    """The trio as one stream against its lanes in turn."""
    [patch] = patches(base, 1)
    engine, second = served(base), served(reference)
    plan, scheduler = StackPlan.of((Bank(engine).segment([patch]), 1.0)), Scheduler(engine)
    lanes = [Lane("base", scheduler), Lane("patched", scheduler, fixed(plan)), Lane("reference", Scheduler(second))]
    wrapped = prompt_tuned(base, [patch])
    models = [(base.model, base), (wrapped, base), (reference.model, reference)]

    def streamed() -> None:
        steps = sum(1 for _ in stream(lanes, [PROMPT], sampling=Sampling(max_new_tokens=tokens)))
        assert steps == tokens, "a lane ended early, so that the sides are not alike"

    def called() -> None:
        for model, backbone in models:
            generate(model, backbone, PROMPT, tokens=tokens)

    def bare() -> None:
        ids = torch.tensor([engine.encode(PROMPT)], device=base.device)
        rows = torch.cat([ids[:, :1].expand(-1, LENGTH), ids], dim=1).repeat(2, 1)  # keys as many as the engine's rows see
        both = Bare(engine.model, rows), Bare(second.model, ids)
        for _ in range(tokens - 1):
            for forward in both:
                forward()

    taken = race({STREAM: lambda: streamed, CALLS: lambda: called, FLOOR: lambda: bare}, repeats=repeats, device=base.device)
    return [ratio(f"{label}: trio streamed to {tokens} tokens / three generate calls", taken, STREAM, CALLS, bar=bar),
            ratio(f"{label}: the bare forwards of a trio / three generate calls", taken, FLOOR, CALLS),
            milliseconds(f"{label}: a step of the trio", taken, STREAM, turns=tokens)]


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    found = []
    for size in ("tiny",) if quick else ("pocket", "120M"):
        say(size)
        repeats, tokens = (2, 4) if quick else (15 if size == "pocket" else 7, 64)
        found += measure(*pair(size), size, repeats=repeats, tokens=tokens, bar=BARS.get(size, BARS["120M"]))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bars are met."""
    return command(__doc__ or "", "trio", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
