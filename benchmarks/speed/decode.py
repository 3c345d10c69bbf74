"""What does a patch cost while decoding? `python -m benchmarks.speed.decode [--quick]`

A step of the engine at 120 M with one patch of 50 embeddings against a step without (bar 1.01x); beside it, against a bare
step of the library, LoRA unmerged and merged (rank 16 on every linear layer, as in the paper) and PEFT's prompt tuning.
Behind an earlier conversation of 900 tokens a step with the patch before the current turn is compared with one that has it
before all text (bar 1.01x), for one row and for base and patched together, which share the history. Other methods run on the
stock layers of the library, the engine on its own, which it packs on a CPU. About a minute and a half on two cores.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence

import torch
from peft import LoraConfig, get_peft_model

from benchmarks.speed.sizes import PROMPT, Bare, made, patches, prompt_tuned, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import BARE, Bank, StackPlan
from patchlab.engine.decode import Batch, BatchRow
from patchlab.models import Backbone
from patchlab.patches.stack import PLACEMENTS

BEHIND = 900  # tokens of an earlier conversation
NONE, PATCHED, STOCK = "no patch", "one patch", "bare model"
TUNED, UNMERGED, MERGED = "PEFT prompt tuning", "LoRA unmerged", "LoRA merged"


def stepping(backbone: Backbone, plan: StackPlan, turns: int) -> Callable[[], object]:
    """The engine's own step of one row, prompt already read."""
    batch = Batch(backbone, [BatchRow(backbone.encode(PROMPT), plan)], room=turns + 1)
    batch.prefill()
    return lambda: batch.step([5])


def conversing(backbone: Backbone, plan: StackPlan, lanes: int, turns: int) -> Callable[[], Callable[[], object]]:
    """The engine's step behind a conversation, for the patched lane or for base and patched; ids and lengths are made up."""
    earlier, now = ([5 + k % 200 for k in range(count)] for count in (BEHIND, 40))

    def ready() -> Callable[[], object]:
        if plan.placement == "front":
            rows = [BatchRow([*earlier, *now], each) for each in (plan, BARE)[:lanes]]
        else:
            first = Batch(backbone, [BatchRow(earlier)], room=0)
            first.prefill()
            rows = [BatchRow(now, each, first.history()) for each in (plan, BARE)[:lanes]]
        batch = Batch(backbone, rows, room=turns + 1)
        batch.prefill()
        return lambda: batch.step([5] * lanes)

    return ready


def conversations(backbone: Backbone, label: str, *, repeats: int, turns: int) -> list[Figure]:
    """Both placements behind an earlier conversation."""
    [patch], engine = patches(backbone, 1), served(backbone)
    part = Bank(engine).segment([patch]), 1.0
    found = []
    for lanes, who in ((1, "patched"), (2, "base and patched")):
        sides = {placement: conversing(engine, StackPlan.of(part, placement=placement), lanes, turns)
                 for placement in PLACEMENTS}
        taken = race(sides, repeats=repeats, turns=turns, device=backbone.device)
        found.append(ratio(f"{label}: a step of {who} behind {BEHIND} tokens, patch before the turn / before all text", taken,
                           *PLACEMENTS, bar="<= 1.01"))
    return found


def tuned_step(backbone: Backbone, wrapped: torch.nn.Module) -> Callable[[], object]:
    """A step of PEFT's prompt tuning as its `generate` takes it: prefix and prompt are in the library's cache."""
    ids = torch.tensor([backbone.encode(PROMPT)], device=backbone.device)
    with torch.no_grad():
        cache = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True).past_key_values

    @torch.no_grad()
    def step() -> object:
        seen = torch.ones(1, cache.get_seq_length() + 1, dtype=torch.long, device=ids.device)
        return backbone.model(input_ids=ids[:, -1:], attention_mask=seen, past_key_values=cache, use_cache=True,
                              logits_to_keep=1)

    return step


def measure(backbone: Backbone, label: str, *, repeats: int, turns: int, bar: str = "<= 1.01") -> list[Figure]:
    """Patch, prompt tuning and both kinds of LoRA on one backbone; a second copy of the weights holds the LoRA."""
    [patch], engine = patches(backbone, 1), served(backbone)
    plan = StackPlan.of((Bank(engine).segment([patch]), 1.0))
    wrapped = prompt_tuned(backbone, [patch])
    ids = torch.tensor([backbone.encode(PROMPT)], device=backbone.device)
    ours = {NONE: lambda: stepping(engine, BARE, turns), PATCHED: lambda: stepping(engine, plan, turns)}
    # two sides only: what decides over one part in a hundred is measured with nothing between
    taken = race(ours, repeats=3 * repeats, turns=turns, device=backbone.device)
    found = [ratio(f"{label}: a step with one patch / without", taken, PATCHED, NONE, bar=bar),
             milliseconds(f"{label}: a step without a patch", taken, NONE, turns=turns)]
    say(f"{label}: PEFT")
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear")
    adapted = get_peft_model(copy.deepcopy(backbone.model), lora, autocast_adapter_dtype=False).eval().requires_grad_(False)
    taken = race({**ours, STOCK: lambda: Bare(backbone.model, ids), TUNED: lambda: tuned_step(backbone, wrapped),
                  UNMERGED: lambda: Bare(adapted, ids)}, repeats=repeats, turns=turns, device=backbone.device)
    found += [ratio(f"{label}: {side}, whole product / bare stock model", taken, side, STOCK) for side in (NONE, PATCHED)]
    found += [ratio(f"{label}: {side} / bare stock model", taken, side, STOCK) for side in (TUNED, UNMERGED)]
    merged = adapted.merge_and_unload()
    taken = race({STOCK: lambda: Bare(backbone.model, ids), MERGED: lambda: Bare(merged, ids)},
                 repeats=repeats, turns=turns, device=backbone.device)
    return [*found, ratio(f"{label}: {MERGED} / bare stock model", taken, MERGED, STOCK)]


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    if quick:
        return [*measure(made("tiny"), "tiny", repeats=2, turns=2), *conversations(made("tiny"), "tiny", repeats=2, turns=2)]
    return [*measure(made("120M"), "120M", repeats=9, turns=24), *conversations(made("120M"), "120M", repeats=9, turns=24)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bar is met."""
    return command(__doc__ or "", "decode", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
