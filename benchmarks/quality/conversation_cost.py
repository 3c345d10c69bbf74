"""What a patch costs in the middle of a conversation: the first token after a toggle, and the memory of two lanes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch

from benchmarks.quality.conversation_suites import Exchange, behind
from benchmarks.speed.timing import Figure, milliseconds, race, ratio
from patchlab.engine import Lab, Sampling, Scheduler, fixed, stream
from patchlab.engine.lanes import Lane, Plans, unpatched
from patchlab.patches import Stack
from patchlab.records import Prompt

ASKED = Prompt("And how long should I let it rest before I serve it?")
KEPT, TOGGLED = "as before", "toggled"


def costs(lab: Lab, stack: Stack, exchanges: Sequence[Exchange], *, quick: bool) -> list[Figure]:
    """The figures behind these exchanges."""
    prompt = behind(ASKED, exchanges)
    plan = fixed(lab.planner.plan(stack))
    figures = [*toggled(lab, prompt, plan, repeats=2 if quick else 31), memory(lab, prompt, plan)]
    return figures


def toggled(lab: Lab, prompt: Prompt, plan: Plans, *, repeats: int) -> list[Figure]:
    """The first token of a patched reply after a reply in the same conversation without the patch, and after one with it."""
    scheduler = Scheduler(lab.base)

    def first_token(plans: Plans) -> None:
        running = stream([Lane("patched", scheduler, plans)], [prompt], sampling=Sampling(max_new_tokens=32))
        next(running)
        running.close()

    def after(plans: Plans) -> Callable[[], Callable[[], object]]:
        def ready() -> Callable[[], object]:
            first_token(plans)
            return lambda: first_token(plan)
        return ready

    taken = race({KEPT: after(plan), TOGGLED: after(unpatched)}, repeats=repeats)
    return [ratio("first token after toggling behind 6 exchanges / not toggling", taken, TOGGLED, KEPT, bar="<= 1.10"),
            milliseconds("first token behind 6 exchanges, patch on", taken, KEPT)]


def memory(lab: Lab, prompt: Prompt, plan: Plans) -> Figure:
    """Bytes of base and patched lane of one conversation over those of the base lane, after the first token."""
    ids, _, turn = lab.base.encode_turns(prompt)
    sampling, slots = Sampling(max_new_tokens=32), plan([prompt])[0].slots
    took = []
    for lanes in ([("base", unpatched)], [("base", unpatched), ("patched", plan)]):
        before, scheduler = live(), Scheduler(lab.base)
        running = stream([Lane(name, scheduler, plans) for name, plans in lanes], [prompt], sampling=sampling)
        next(running)
        took.append(live() - before)
        running.close()
        del running, scheduler
    text = len(ids) + sampling.max_new_tokens
    most = 1.05 * (1 + (text - turn + slots) / text)
    return Figure.of("memory of base and patched lanes behind 6 exchanges / base lane", [took[1] / took[0]], bar=f"<= {most:.3f}")


def live() -> int:
    """Bytes of all tensors that exist."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        # isinstance would ask lazy objects for their class; packed weights have another layout, and no storage
        if issubclass(type(each), torch.Tensor) and not each.is_meta and each.layout is torch.strided:
            storage = each.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())
