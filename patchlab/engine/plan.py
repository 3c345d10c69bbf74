"""Resolves a stack for a prompt on a base: the only module that looks patches up, determines strengths and evaluates gates.

Everything that decodes or computes likelihoods takes a `StackPlan`, never a stack. Every plan is computed from the patches that
are installed at that moment, so installed, replaced and deleted patches take effect with the next plan.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from patchlab.engine.anchors import anchors_of
from patchlab.engine.forward_rows import ForwardRow, Part, blend, parallel
from patchlab.engine.gates import check_gate, read_history, score, state_behind, states
from patchlab.engine.histories import Histories
from patchlab.engine.segments import Bank
from patchlab.errors import StackError
from patchlab.models import Adapter, Backbone, Encoded
from patchlab.patches import Patch, Stack
from patchlab.patches.compatibility import warnings
from patchlab.patches.interactions import Interactions
from patchlab.patches.stack import Placement, common_strength
from patchlab.records import Prompt
from patchlab.registry import Installed, Registry, default_registry
from patchlab.registry.interaction_files import find_interactions

REMEMBERED = 4096  # gate decisions that are cached


@dataclass(frozen=True, slots=True)
class PlannedPatch:
    """A patch of a stack in its resolved version, with its resolved strength."""

    patch: Patch
    strength: float

    @property
    def name(self) -> str:
        """The patch's name."""
        return self.patch.manifest.name


@dataclass(frozen=True, slots=True, eq=False)
class StackPlan:
    """A stack resolved for a prompt on a base.

    `rows` are its forward rows, `patches` all patches of the stack with their strengths (0 is off), `skipped` the names of those
    that their gates switch off for this prompt, `warnings` the known conflicts of the stack on this base. `placement` says where
    the patches stand in a conversation. Prompts with equal plans share one object.
    """

    rows: tuple[ForwardRow, ...] = (ForwardRow(),)
    patches: tuple[PlannedPatch, ...] = ()
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    placement: Placement = "turn"

    @classmethod
    def of(cls, *parts: Part, placement: Placement = "turn") -> StackPlan:
        """The plan of compiled segments in parallel, without installed patches."""
        return cls(parallel(parts), placement=placement)

    @classmethod
    def adapted(cls, adapter: Adapter | None) -> StackPlan:
        """The plan of a bare row of the base with an adapter; without one the plan of the bare base."""
        return BARE if adapter is None else cls((ForwardRow(adapter=adapter),))

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of all forward rows."""
        return self.rows[0].adapter

    def anchors(self, backbone: Backbone) -> bool:
        """Whether the patches stand right before the current turn of a conversation with this backbone."""
        return self.placement == "turn" and not anchors_of(backbone).reason

    @property
    def start(self) -> int:
        """The highest position of the first text token in any forward row."""
        return max(row.start for row in self.rows)

    @property
    def slots(self) -> int:
        """The maximum number of slots of a forward row."""
        return max(row.slots for row in self.rows)


BARE = StackPlan()


class Planner:
    """Plans stacks of the patches in a registry for one base; owns the base's bank of compiled patches.

    `histories` are the conversations that the base has read, as a rule those of its scheduler.
    """

    def __init__(self, base: Backbone, registry: Registry | None = None, *, histories: Histories | None = None) -> None:
        self.base, self.registry, self.bank = base, registry or default_registry(), Bank(base)
        self.histories = histories or Histories()
        self._decided: OrderedDict[tuple[str, tuple[int, ...]], bool] = OrderedDict()
        self._lock = threading.Lock()

    def installed(self) -> list[Installed]:
        """The newest installed version of each patch that was made for this base, by name."""
        fitting = [one for one in self.registry.list() if self.base.same_base(one.manifest.base)]
        return [*{one.manifest.name: one for one in fitting}.values()]  # the last of a name is its newest version

    def find(self, name: str, version: str | None = None) -> Installed:
        """An installed patch, not read yet; without a version the newest that was made for this base. Raises NotFoundError."""
        return self.registry.find(name, version, fingerprints=self.base.fingerprints)

    def patch(self, name: str, version: str | None = None) -> Patch:
        """An installed patch; without a version the newest that was made for this base.

        Raises NotFoundError, PatchFormatError, or BaseMismatchError for a patch of another base.
        """
        found = self.registry.load(name, version, fingerprints=self.base.fingerprints)
        self.base.check_patch(found.manifest.base, patch=f"{found.manifest.name} {found.manifest.version}")
        return found

    def plan(self, stack: Stack, prompt: Prompt | None = None) -> StackPlan:
        """The plan of a stack for a prompt; without a prompt gates are ignored. Raises as `plans`."""
        if prompt is None and isinstance(stack, Stack):
            stack = replace(stack, gates=False)
        return self.plans(stack, [prompt or Prompt("any")])[0]

    def plans(self, stack: Stack, prompts: Sequence[Prompt]) -> list[StackPlan]:
        """The plan for each prompt; versions, strengths and warnings are resolved once for all prompts.

        Raises NotFoundError, PatchFormatError, BaseMismatchError, ContextError, or StackError for patches that cannot be
        combined.
        """
        patches = self._patches(stack)
        notes = self._warnings(stack, patches)
        gated = [one for one in patches if stack.gates and one.patch.gate and one.strength > 0]
        for one in gated:
            check_gate(self.base, one.patch.gate, patch=one.name)  # type: ignore[arg-type]
        made: dict[tuple[tuple[str, ...], bool], StackPlan] = {}
        found = []
        for prompt in prompts:
            skipped, earlier = self._skipped(gated, prompt, alone=len(prompts) == 1), bool(prompt.earlier)
            if (skipped, earlier) not in made:
                resolved = _with_strengths(stack, patches, skipped)
                on = [one for one in resolved if one.name not in skipped and one.strength > 0]
                told = (*notes, *self._fading(stack, on)) if earlier else notes
                made[skipped, earlier] = StackPlan(self._rows(stack, on), resolved, skipped, told, stack.placement)
            found.append(made[skipped, earlier])
        return found

    def _fading(self, stack: Stack, on: Sequence[PlannedPatch]) -> list[str]:
        """The warning that patches cannot stand before the current turn on this base."""
        reason = anchors_of(self.base).reason if on and stack.placement == "turn" else ""
        return [f"patches stand before the whole conversation and fade as it grows, since {self.base.name} cannot place them "
                f"before the current turn ({reason})"] if reason else []

    def _patches(self, stack: Stack) -> tuple[PlannedPatch, ...]:
        """The patches of a stack in their order, each with the given strength, by default its calibrated one."""
        if not isinstance(stack, Stack):
            raise StackError(f"a {type(stack).__name__} for a stack", expected="a Stack", do="use Stack.parse('name:strength')")
        found = [(self.patch(entry.name, entry.version), entry.strength) for entry in stack.entries]
        return tuple(PlannedPatch(patch, patch.manifest.strength if given is None else given) for patch, given in found)

    def _warnings(self, stack: Stack, patches: Sequence[PlannedPatch]) -> tuple[str, ...]:
        on = [one.patch.manifest for one in patches if one.strength > 0]
        notes = [f"patch {manifest.name} {manifest.version} was trained with another chat template than that of "
                 f"{self.base.name}: its effect with this one is not measured"
                 for manifest in on if self.base.template_differs(manifest.base)]
        if len(on) > 1:
            measured, broken = find_interactions(self.registry, fingerprints=self.base.fingerprints)
            # pairs are measured without gates, so the results do not apply with gates
            fights = Interactions() if stack.gates else measured
            notes += [*broken, *warnings(on, stack.mode, fights, fingerprints=self.base.fingerprints)]
        return tuple(notes)

    def _rows(self, stack: Stack, on: Sequence[PlannedPatch]) -> tuple[ForwardRow, ...]:
        if stack.mode == "sequential":
            together = [one.patch for one in on]
            return parallel([(self.bank.segment(together), on[0].strength)] if on else ())
        # sorted by digest, so that every order of a stack gives bit-equal sums
        parts = [(self.bank.segment([one.patch]), one.strength) for one in sorted(on, key=lambda one: one.patch.digest)]
        return blend(parts) if stack.mode == "blend" else parallel(parts)

    def _skipped(self, gated: Sequence[PlannedPatch], prompt: Prompt, *, alone: bool) -> tuple[str, ...]:
        """The names of the gated patches that are off for a prompt, which may be planned `alone`.

        Each prompt is read alone and its decisions are cached, so that they cannot depend on other prompts. If the hidden state
        is not finite, the patch stays on.
        """
        encoded = self.base.encode_turns(prompt) if gated else Encoded([])
        ids = tuple(encoded.ids)
        if not 0 < len(ids) <= self.base.context:  # a longer prompt raises ContextError when it is decoded
            return ()
        gates = {one.name: one.patch.gate for one in gated if one.patch.gate}
        off = {name: self._remembered((gate.digest, ids)) for name, gate in gates.items()}
        undecided = {name: gates[name] for name, decision in off.items() if decision is None}
        if undecided:
            layers = sorted({gate.layer for gate in undecided.values()})
            read = self._read(encoded, layers, alone=alone)
            off |= {name: score(gate, read[layers.index(gate.layer)]) < 0 for name, gate in undecided.items()}
            with self._lock:
                self._decided |= {(gate.digest, ids): bool(off[name]) for name, gate in undecided.items()}
                while len(self._decided) > REMEMBERED:
                    self._decided.popitem(last=False)
        return tuple(name for name in gates if off[name])

    def _read(self, encoded: Encoded, layers: Sequence[int], *, alone: bool) -> Tensor:
        """The states [layers, D] of one prompt, on top of its history as far as that is known.

        The history of a prompt that is planned `alone` is kept, as its lanes need it next; many prompts would evict each
        other's, and what is not known of theirs is read up to the deepest layer only.
        """
        ids, _, turn = encoded
        known = self.histories.longest(ids[:turn]) if turn else None
        if turn and alone and (known is None or len(known) < turn):
            known = self.histories.grown(read_history(self.base, ids[:turn], known), known)
        return state_behind(self.base, ids, known, layers) if known else states(self.base, [ids], layers)[0]

    def _remembered(self, key: tuple[str, tuple[int, ...]]) -> bool | None:
        """The cached decision of a gate on a prompt (True: off), None if there is none."""
        with self._lock:
            if key in self._decided:
                self._decided.move_to_end(key)
            return self._decided.get(key)


def _with_strengths(stack: Stack, patches: tuple[PlannedPatch, ...], skipped: Sequence[str]) -> tuple[PlannedPatch, ...]:
    """The patches with their final strengths: in sequential mode one for all, the given one or that of all that are on."""
    if stack.mode != "sequential":
        return patches
    given = next((entry.strength for entry in stack.entries if entry.strength), None)
    on = [one.strength for one in patches if one.strength > 0 and one.name not in skipped]
    return tuple(replace(one, strength=(given or common_strength(on)) if one.strength > 0 else 0.0) for one in patches)
