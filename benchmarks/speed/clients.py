"""Can one batch serve many clients? `python -m benchmarks.speed.clients [--quick]`

Sixteen clients with sixteen different stacks as one batch, against the same sixteen one after another (bars 8x pocket, 4x
120 M), in two cases: every subset of four patches, and a patch of its own for each client. One after another in two ways: the
engine's own, on the same kernels, which is judged; and the library's `generate` with a stack's keys and values in its cache. The
second case also against PEFT, one `set_adapter` and one `generate` a request (bar 8x). The library runs on stock layers, the
engine on its own, which it packs on a CPU: these rows are the whole product against the stock library. About twelve minutes on
two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import combinations

import torch
from transformers import DynamicCache

from benchmarks.speed.sizes import PROMPT, generate, pair, patches, prompt_tuned, served
from benchmarks.speed.timing import Figure, Side, command, milliseconds, race, ratio, say
from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed, stream
from patchlab.models import Backbone
from patchlab.patches import Patch

CLIENTS = 16
BARS = {"pocket": ">= 8", "120M": ">= 4"}
PEFT_BAR = ">= 8"


def lanes_of(backbone: Backbone, stacks: Sequence[Sequence[Patch]]) -> list[Lane]:
    """One lane a client, each with its own stack."""
    bank, scheduler = Bank(backbone), Scheduler(backbone)
    return [Lane(f"client-{k}", scheduler, fixed(StackPlan.of(*((bank.segment([patch]), 1.0) for patch in stack))))
            for k, stack in enumerate(stacks)]


def measure(backbone: Backbone, label: str, *, repeats: int, tokens: int, bar: str = BARS["120M"]) -> list[Figure]:
    """Both cases on one backbone, everything as text."""
    some = patches(backbone, CLIENTS)
    cases = {"subsets of 4 patches": [stack for size in range(5) for stack in combinations(some[:4], size)],
             "a patch a client": [(patch,) for patch in some]}
    wrapped, engine = prompt_tuned(backbone, some), served(backbone)

    def answer(lanes: Sequence[Lane]) -> None:
        for _ in stream(lanes, [PROMPT], sampling=Sampling(max_new_tokens=tokens)):
            pass

    def generated(lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            kept, parts = DynamicCache(), lane.plans([PROMPT])[0].rows[0].parts
            for k in range(backbone.model.config.num_hidden_layers if parts else 0):
                kept.update(*(torch.cat([getattr(part, which)[k] for part, _ in parts], dim=1)[None]
                              for which in ("keys", "values")), k)
            generate(backbone.model, backbone, PROMPT, tokens=tokens, kept=kept)

    def requests() -> None:
        for patch in some:
            wrapped.set_adapter(patch.manifest.name)
            generate(wrapped, backbone, PROMPT, tokens=tokens)

    sides: dict[str, Side] = {"peft": lambda: requests}
    for case, stacks in cases.items():
        lanes = lanes_of(engine, stacks)
        sides[f"{case}, batch"] = lambda lanes=lanes: lambda: answer(lanes)
        sides[f"{case}, in turn"] = lambda lanes=lanes: lambda: [answer([lane]) for lane in lanes]
        sides[f"{case}, generate"] = lambda lanes=lanes: lambda: generated(lanes)
    taken = race(sides, repeats=repeats, device=backbone.device)
    own = "a patch a client"
    found = [ratio(f"{label}: 16 clients {words} / one batch, {case}", taken, f"{case}, {way}", f"{case}, batch", bar=judged)
             for case in cases
             for way, words, judged in (("in turn", "in turn", bar), ("generate", "by stock generate in turn", ""))]
    return [*found, ratio(f"{label}: 16 requests by stock PEFT / one batch, {own}", taken, "peft", f"{own}, batch", bar=PEFT_BAR),
            milliseconds(f"{label}: a step of 16 clients, {own}", taken, f"{own}, batch", turns=tokens)]


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    if quick:
        return measure(pair("tiny")[0], "tiny", repeats=2, tokens=2)
    found = []
    for size, tokens in (("pocket", 64), ("120M", 20)):
        say(size)
        found += measure(pair(size)[0], size, repeats=7, tokens=tokens, bar=BARS[size])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bars are met."""
    return command(__doc__ or "", "clients", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
