"""Is the trio faster than its three models asked in turn? `python -m benchmarks.speed.trio [--quick]`

Base, patched and reference streamed to 64 tokens as text, against three `generate` calls one after another for the same
prompt: the base, the base under PEFT's prompt tuning, the reference. Both sides on the engine's layers, which it packs on a CPU
(bars 0.62x pocket, 0.7x 120 M). The limit for two models is two of three forward passes, 0.67x; below it only what the stream
saves around them counts. Beside it the whole product against the library on its stock layers, and the floor: the forward
passes that any trio takes, two rows of the base and one of the reference a token, bare. About four minutes on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from benchmarks.speed.sizes import LENGTH, PROMPT, Bare, generate, pair, patches, prompt_tuned, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed, stream
from patchlab.models import Backbone

STREAM, CALLS, STOCK, FLOOR = "trio streamed", "three generate calls", "three stock generate calls", "bare forwards"
BARS = {"pocket": "<= 0.62", "120M": "<= 0.7"}


def measure(base: Backbone, reference: Backbone, label: str, *, repeats: int, tokens: int,
            bar: str = BARS["120M"]) -> list[Figure]:
    """The trio as one stream against its lanes in turn."""
    [patch] = patches(base, 1)
    engine, second = served(base), served(reference)
    plan, scheduler = StackPlan.of((Bank(engine).segment([patch]), 1.0)), Scheduler(engine)
    lanes = [Lane("base", scheduler), Lane("patched", scheduler, fixed(plan)), Lane("reference", Scheduler(second))]
    # PEFT writes to the model that it wraps, so the engine's own is left alone
    sides = {CALLS: (served(base), second), STOCK: (base, reference)}
    models = {side: [(first.model, first), (prompt_tuned(first, [patch]), first), (other.model, other)]
              for side, (first, other) in sides.items()}

    def streamed() -> None:
        steps = sum(1 for _ in stream(lanes, [PROMPT], sampling=Sampling(max_new_tokens=tokens)))
        assert steps == tokens, "a lane ended early, so that the sides are not alike"

    def called(side: str) -> None:
        for model, backbone in models[side]:
            generate(model, backbone, PROMPT, tokens=tokens)

    def bare() -> None:
        ids = torch.tensor([engine.encode(PROMPT)], device=base.device)
        rows = torch.cat([ids[:, :1].expand(-1, LENGTH), ids], dim=1).repeat(2, 1)  # keys as many as the engine's rows see
        both = Bare(engine.model, rows), Bare(second.model, ids)
        for _ in range(tokens - 1):
            for forward in both:
                forward()

    taken = race({STREAM: lambda: streamed, CALLS: lambda: lambda: called(CALLS), STOCK: lambda: lambda: called(STOCK),
                  FLOOR: lambda: bare}, repeats=repeats, device=base.device)
    return [ratio(f"{label}: trio streamed to {tokens} tokens / three generate calls on the same kernels", taken, STREAM, CALLS,
                  bar=bar),
            ratio(f"{label}: whole product, the same / three stock generate calls", taken, STREAM, STOCK),
            ratio(f"{label}: the bare forwards of a trio / three generate calls on the same kernels", taken, FLOOR, CALLS),
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
