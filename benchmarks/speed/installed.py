"""What do patches cost that are installed but off? `python -m benchmarks.speed.installed [--quick]`

A reply with one patch on where 64 patches are installed and compiled, against the same where it is the only one (bar
1.05x), and a step of the 120 M model likewise. Then what a patch in the bank takes in memory, as multiples of the bytes its
keys and values must have (bar: within 5 %). About a minute on two cores.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.speed.sizes import LENGTH, PROMPT, pair, patches, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import Bank, Lab, Sampling
from patchlab.models import Backbone
from patchlab.patches import Patch, Stack
from patchlab.registry import Registry

MOST = 64


def lab_with(base: Backbone, some: Sequence[Patch], folder: Path) -> Lab:
    """A lab with these patches installed and all of them compiled."""
    for patch in some:
        patch.save_pretrained(folder / f"{patch.manifest.name}-{patch.manifest.version}")
    lab = Lab(base, registry=Registry([folder]))
    for patch in some:
        lab.planner.plan(Stack.parse(patch.manifest.name))
    return lab


def measure(base: Backbone, label: str, *, repeats: int, tokens: int, most: int = MOST) -> list[Figure]:
    """Replies of a lab with one patch installed against one with many, and the memory of those many."""
    base = served(base)
    one, many = "1 installed", f"{most} installed"
    some = patches(base, most)
    stack = Stack.parse(some[0].manifest.name)
    with tempfile.TemporaryDirectory() as folder:
        labs = {one: lab_with(base, some[:1], Path(folder) / "one"),
                 many: lab_with(base, some, Path(folder) / "many")}

        def reply(lab: Lab) -> Callable[[], object]:
            return lambda: lab.replies([PROMPT], stack=stack, sampling=Sampling(max_new_tokens=tokens), lanes=["patched"])

        def fresh(lab: Lab) -> Callable[[], object]:
            return lambda: lab.planner.plan(stack, PROMPT)

        taken = race({name: lambda lab=lab: reply(lab) for name, lab in labs.items()}, repeats=repeats,
                     device=base.device)
        opened = race({name: lambda lab=lab: fresh(lab) for name, lab in labs.items()}, repeats=repeats)
    return [ratio(f"{label}: a reply, one patch on, {many} / {one}", taken, many, one, bar="<= 1.05"),
            milliseconds(f"{label}: planning a stack, {one}", opened, one),
            milliseconds(f"{label}: planning a stack, {many}", opened, many),
            *memory(base, label, labs[many].planner.bank, some)]


def memory(base: Backbone, label: str, bank: Bank, some: Sequence[Patch]) -> list[Figure]:
    """What a patch in the bank really holds on to, against the bytes of its keys and values by the model's shape."""
    config = base.model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    wanted = 2 * config.num_hidden_layers * config.num_key_value_heads * head * LENGTH * base.dtype.itemsize
    held = []
    for patch in some:
        segment = bank.segment([patch])
        # storages and not tensors: a small view can keep a large block alive
        stores = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in (*segment.keys, *segment.values))}
        held.append(sum(stores.values()) / wanted)
    found = [Figure.of(f"{label}: memory of a patch in the bank / its {wanted:,} bytes", held, bar="<= 1.05")]
    if base.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        again = Bank(base)
        for patch in some:
            again.segment([patch])
        taken = (torch.cuda.memory_allocated() - before) / len(some) / wanted
        found.append(Figure.of(f"{label}: device memory a patch, as the allocator counts", [taken], bar="<= 1.05"))
    return found


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    found = []
    for size, repeats, tokens in (("tiny", 2, 2),) if quick else (("pocket", 41, 32), ("120M", 15, 16)):
        say(size)
        found += measure(pair(size)[0], size, repeats=repeats, tokens=tokens, most=8 if quick else MOST)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bars are met."""
    return command(__doc__ or "", "installed", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
