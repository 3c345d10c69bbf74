"""What does switching a patch cost? `python -m benchmarks.speed.toggle [--quick]`

The first token of a patched reply after a run without the patch, or with it at another strength, against the first token
after a run just like it (bar 1.05x). Beside it: the very first use, which compiles. Under a minute on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks.speed.sizes import PROMPT, pair, patches, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import BARE, Bank, Lane, Sampling, Scheduler, StackPlan, fixed, stream
from patchlab.models import Backbone
from patchlab.patches import Patch

KEPT, TOGGLED, MOVED, NEW = "as before", "toggled", "strength moved", "first use"


def first_token(scheduler: Scheduler, bank: Bank, patch: Patch, strength: float) -> None:
    """Ask with the patch at this strength and stop at the first token."""
    plan = StackPlan.of((bank.segment([patch]), strength)) if strength else BARE
    running = stream([Lane("patched", scheduler, fixed(plan))], [PROMPT], sampling=Sampling(max_new_tokens=64))
    next(running)
    running.close()


def measure(backbone: Backbone, label: str, *, repeats: int, bar: str = "<= 1.05") -> list[Figure]:
    """The first token after each kind of run before."""
    backbone = served(backbone)
    [patch] = patches(backbone, 1)
    bank, scheduler = Bank(backbone), Scheduler(backbone)

    def after(strength: float) -> Callable[[], Callable[[], object]]:
        def ready() -> Callable[[], object]:
            first_token(scheduler, bank, patch, strength)
            return lambda: first_token(scheduler, bank, patch, 1.0)
        return ready

    def new() -> Callable[[], object]:
        return lambda: first_token(scheduler, Bank(backbone), patch, 1.0)

    sides = {KEPT: after(1.0), TOGGLED: after(0.0), MOVED: after(0.5), NEW: new}
    taken = race(sides, repeats=repeats, device=backbone.device)
    return [ratio(f"{label}: first token after toggling / not toggling", taken, TOGGLED, KEPT, bar=bar),
            ratio(f"{label}: first token after moving the strength / not moving", taken, MOVED, KEPT),
            ratio(f"{label}: first use of a patch / later uses", taken, NEW, KEPT),
            milliseconds(f"{label}: first token, patch on", taken, KEPT)]


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    found = []
    for size, repeats in (("tiny", 2),) if quick else (("pocket", 101), ("120M", 31)):
        say(size)
        found += measure(pair(size)[0], size, repeats=repeats)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bars are met."""
    return command(__doc__ or "", "toggle", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
