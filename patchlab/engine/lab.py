"""The trio: base, patched and reference, loaded once and asked together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from patchlab.engine.forward_rows import Blend, Parts
from patchlab.engine.gates import Gated, Wanted, check_gate, let_through
from patchlab.engine.lanes import Lane, replies, stream
from patchlab.engine.sampler import Sampling
from patchlab.engine.segments import Bank
from patchlab.errors import NotFoundError, StackError
from patchlab.models.backbone import Backbone
from patchlab.models.presets import Preset, preset
from patchlab.patches import Patch, Stack
from patchlab.patches.manifest import version_key
from patchlab.patches.stack import common_strength
from patchlab.records import Delta, Prompt, Reply
from patchlab.registry import Installed, Registry, default_registry


class Trio:
    """A base with its bank of patches, and the reference; lanes are a list, in this order: base, patched, reference."""

    lanes = ("base", "patched", "reference")

    def __init__(self, base: Backbone, reference: Backbone, *, registry: Registry, preset: Preset) -> None:
        self.base, self.reference = base, reference
        self.registry, self.preset = registry, preset
        self.bank = Bank(base)
        self._patches: dict[tuple[str, str | None], Patch] = {}

    def installed(self) -> list[Installed]:
        """The installed patches that were made for this base, newest version of each name."""
        fitting = [each for each in self.registry.list()
                   if each.manifest.base.fingerprint == self.base.identity.fingerprint]
        names = dict.fromkeys(each.manifest.name for each in fitting)
        newest = [[each for each in fitting if each.manifest.name == name] for name in names]
        return [max(each, key=lambda one: version_key(one.manifest.version)) for each in newest]

    def patch(self, name: str, version: str | None = None) -> Patch:
        """An installed patch, checked once and kept; without a version the newest that was made for this base.

        Raises NotFoundError, PatchFormatError or BaseMismatchError.
        """
        key = (name, version)
        if key not in self._patches:
            # where none fits, the registry's own choice says in its error for which base it was made
            found = self.registry.load(name, version or self.registry.newest_for(name, self.base.identity.fingerprint))
            self.base.check_patch(found.manifest.base, patch=f"{found.manifest.name} {found.manifest.version}")
            self._patches[key] = found
        return self._patches[key]

    def parts(self, stack: Stack) -> Wanted:
        """The bank's segments a stack switches on, with their strengths, in an order that is not the stack's; compiled at
        first use. Where the stack heeds gates and a patch of it has one, what is on depends on the prompt.
        Raises StackError for what is no stack, and as `patch`.
        """
        if not isinstance(stack, Stack):
            raise StackError(f"a {type(stack).__name__} for a stack", expected="a Stack", do="use Stack.parse('name:strength')")
        gates = {}
        for entry in stack.entries if stack.gates else ():
            patch = self.patch(entry.name, entry.version)
            if patch.gate and entry.strength != 0:
                check_gate(self.base, patch.gate, patch=entry.name)
                gates[entry.name] = patch.gate
        return Gated(gates, partial(self._parts, stack)) if gates else self._parts(stack)

    def let_through(self, stack: Stack, prompts: Sequence[Prompt]) -> list[tuple[str, ...]]:
        """For each prompt the patches of a stack that their gates leave off; none where the stack heeds no gates."""
        asked = self.parts(stack)
        return let_through(self.base, [(self.base.encode(prompt), asked.gates if isinstance(asked, Gated) else {})
                                       for prompt in prompts])

    def _parts(self, stack: Stack, without: Collection[str] = ()) -> Parts:
        """The parts of a stack without some of its patches."""
        patches = [(self.patch(entry.name, entry.version), entry) for entry in stack.entries]  # all are to be there
        on = [(patch, patch.manifest.strength if entry.strength is None else entry.strength) for patch, entry in patches
              if entry.name not in without and entry.strength != 0]
        if stack.mode == "sequential" and on:
            given = next((entry.strength for entry in stack.entries if entry.strength), None)  # whatever gates leave of it
            strength = given or common_strength([own for _, own in on])
            return ((self.bank.segment([patch for patch, _ in on]), strength),)
        on.sort(key=lambda each: each[0].digest)  # no order, not even of the sums: a stack turned around is itself to the bit
        parts = tuple((self.bank.segment([patch]), strength) for patch, strength in on)
        return Blend(parts) if stack.mode == "blend" else parts

    def lane_list(self, stack: Stack, names: Sequence[str] | None = None) -> list[Lane]:
        """The lanes of these names (all by default) with `stack` on the patched one."""
        made = {"base": lambda: Lane("base", self.base), "reference": lambda: Lane("reference", self.reference),
                "patched": lambda: Lane("patched", self.base, self.parts(stack))}
        for name in names or ():
            if name not in made:
                raise NotFoundError.of("lane", name, self.lanes)
        return [made[name]() for name in names or self.lanes]

    def stream(self, prompts: Sequence[Prompt], *, stack: Stack, samples: int = 1,
               sampling: Sampling | None = None) -> Iterator[tuple[Delta, ...]]:
        """Yield one tuple of deltas a step, every lane advancing together; closing it frees memory.

        Raises a PatchLabError before the first step where prompts, stack or sampling cannot be used.
        """
        return stream(self.lane_list(stack), prompts, samples=samples, sampling=sampling)

    def replies(self, prompts: Sequence[Prompt], *, stack: Stack, samples: int = 1, sampling: Sampling | None = None,
                lanes: Sequence[str] | None = None) -> list[Reply]:
        """Finished replies of these lanes to all prompts and samples, by lane and row."""
        names = list(lanes or self.lanes)
        chunks = replies(self.lane_list(stack, names), prompts, samples=samples, sampling=sampling)
        return sorted((reply for chunk in chunks for reply in chunk), key=lambda r: (names.index(r.lane), r.row))


def load_trio(name: str = "pocket", *, registry: Registry | None = None, device: str | None = None,
              bits: int | None = None) -> Trio:
    """Load a preset's base and reference, their layers in 8 or 4 `bits` if asked for.

    Raises NotFoundError for an unknown preset, ModelError where loading fails, MissingExtraError without what narrows.
    """
    which = preset(name)
    base = Backbone.load(which.source("base"), device=device, bits=bits)
    reference = Backbone.load(which.source("reference"), device=device, bits=bits)
    return Trio(base, reference, registry=registry or default_registry(), preset=which)
