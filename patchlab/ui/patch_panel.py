"""The controls of the stack: which patches are on, how strongly, in which order and mode.

The panel has one slot a patch; `order` says which patch stands in which slot, so moving a patch moves words and values
between slots and never a component.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import PatchLabError
from patchlab.patches.manifest import MAX_STRENGTH
from patchlab.patches.stack import Entry, Stack
from patchlab.records import Prompt
from patchlab.ui import copy
from patchlab.ui.diff import escaped
from patchlab.ui.session import moved, stack_of

if TYPE_CHECKING:
    from patchlab.engine import Planner
    from patchlab.patches.manifest import Manifest

NAMED = re.compile(r"'([a-z0-9-]+)'")  # how warnings name a patch

# what is being typed into a slider's number field: nothing yet is 0, and what is out of range the nearest
TYPED = f"""(...values) => values.map((value) =>
  value === null ? 0 : typeof value === "number" ? Math.min(Math.max(value, 0), {MAX_STRENGTH:g}) : value)"""


@dataclass(frozen=True, slots=True)
class PatchControls:
    """The components of one patch."""

    on: gr.Checkbox
    strength: gr.Slider
    moves: gr.Row
    up: gr.Button
    down: gr.Button


@dataclass(frozen=True, slots=True)
class PatchPanel:
    """The panel's components, and how their values become a stack."""

    order: gr.State
    slots: tuple[PatchControls, ...]
    mode: gr.Radio
    shared: gr.Slider
    gates: gr.Checkbox
    warning: gr.HTML
    planner: Planner
    known: Mapping[str, Manifest]  # those that the panel has controls for

    @property
    def inputs(self) -> set[Any]:
        """Every component a stack is read from."""
        return {self.order, self.mode, self.shared, self.gates, *(slot.on for slot in self.slots),
                *(slot.strength for slot in self.slots)}

    def stack(self, values: Mapping[Any, Any]) -> Stack:
        """The stack that the components' values describe."""
        names: Sequence[str] = values[self.order]
        ticked = {name: float(values[slot.strength])
                  for name, slot in zip(names, self.slots, strict=True) if values[slot.on]}
        return stack_of(names, ticked, mode=values[self.mode], shared=float(values[self.shared]),
                        gates=bool(values[self.gates]))

    def strength(self, name: str, values: Mapping[Any, Any]) -> float:
        """The strength that is set for a patch, ticked or not."""
        one = self.shared if values[self.mode] == "sequential" else self.slots[values[self.order].index(name)].strength
        return float(values[one])

    def common(self, values: Mapping[Any, Any]) -> float:
        """The strength that a sequence of the ticked patches gets where none is set."""
        ticked = tuple(Entry(name) for name, slot in zip(values[self.order], self.slots, strict=True) if values[slot.on])
        try:
            patches = self.planner.plan(Stack(ticked, "sequential")).patches
        except PatchLabError:  # what `warned` says
            patches = ()
        return max((each.strength for each in patches), default=float(values[self.shared]))

    @property
    def begun(self) -> dict[Any, Any]:
        """The values the components begin with."""
        return {each: each.value for each in self.inputs}

    def warned(self, values: Mapping[Any, Any]) -> str:
        """What speaks against the stack that the components' values describe, as HTML; nothing where nothing does."""
        try:
            # with a prompt, since gates have a say in what is warned of; which prompt has none
            return self.told(self.planner.plan(self.stack(values), Prompt("any")).warnings)
        except PatchLabError as error:
            return self.told([copy.sentence(str(error))])

    def told(self, warnings: Sequence[str]) -> str:
        """The warnings of a plan as HTML, with the titles of patches in place of their names."""
        titled = [NAMED.sub(lambda name: f"“{self.known[name[1]].title}”" if name[1] in self.known else name[0], words)
                  for words in warnings]
        return "".join(f'<p class="warning">{escaped(words)}</p>' for words in titled)


def build(planner: Planner, *, gates: bool = False) -> PatchPanel:
    """Place the components of the patches that are installed for the planner's base, with gates on or off, and connect them."""
    known = {installed.manifest.name: installed.manifest for installed in planner.installed()}
    gr.HTML(f"<h2>{copy.PATCHES_TITLE}</h2><p class='note'>{copy.PATCHES_NOTE if known else copy.NO_PATCHES}</p>",
            apply_default_css=False)
    order = gr.State(list(known))
    slots = tuple(_slot(manifest, index, len(known)) for index, manifest in enumerate(known.values()))
    several = len(known) > 1
    mode = gr.Radio(copy.MODES, value="parallel", label=copy.MODE_LABEL, visible=several, interactive=True, elem_id="mode")
    shared = gr.Slider(0, MAX_STRENGTH, value=1.0, step=0.01, label=copy.SHARED_STRENGTH, visible=False,
                       elem_id="shared", buttons=[], interactive=True)
    gated = any(manifest.gated for manifest in known.values())
    use_gates = gr.Checkbox(gates and gated, label=copy.GATES_LABEL, info=copy.GATES_NOTE, elem_id="gates",
                            visible=gated, interactive=True)
    warning = gr.HTML("", apply_default_css=False, elem_id="warning")
    panel = PatchPanel(order, slots, mode, shared, use_gates, warning, planner, known)
    shared.value, warning.value = panel.common(panel.begun), panel.warned(panel.begun)
    _connect(panel, known)
    return panel


def _slot(manifest: Manifest, index: int, count: int) -> PatchControls:
    with gr.Column(elem_classes=["patch-slot"], min_width=0):
        with gr.Row():
            on = gr.Checkbox(True, label=manifest.title, info=manifest.summary, interactive=True, scale=1, min_width=170)
            strength = gr.Slider(0, MAX_STRENGTH, value=manifest.strength, step=0.05, label=_strength_label(manifest),
                                 scale=1, min_width=170, buttons=[], interactive=True)
        with gr.Row(visible=False, elem_classes=["moves"]) as moves:
            up = gr.Button("Move earlier", size="sm", scale=0, min_width=110, interactive=index > 0)
            down = gr.Button("Move later", size="sm", scale=0, min_width=110, interactive=index < count - 1)
    return PatchControls(on, strength, moves, up, down)


def _strength_label(manifest: Manifest) -> str:
    return f"Strength: {manifest.title}"


def _connect(panel: PatchPanel, known: Mapping[str, Manifest]) -> None:
    def show_mode(values: dict[Any, Any]) -> dict[Any, Any]:
        """Order and one common strength belong to sequential mode, a strength a patch to every other."""
        one = values[panel.mode] == "sequential"
        shown: dict[Any, Any] = {panel.shared: gr.update(visible=one, value=panel.common(values))}
        for slot in panel.slots:
            shown |= {slot.strength: gr.update(visible=not one), slot.moves: gr.update(visible=one)}
        return shown

    changed = [panel.shared, *(part for slot in panel.slots for part in (slot.strength, slot.moves))]
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    panel.mode.change(show_mode, panel.inputs, changed, js=TYPED, **quiet)
    said = [panel.mode.change, panel.shared.change, panel.order.change, panel.gates.change,
            *(each.change for slot in panel.slots for each in (slot.on, slot.strength))]
    gr.on(said, panel.warned, panel.inputs, panel.warning, trigger_mode="always_last", js=TYPED, **quiet)
    gr.on([slot.on.change for slot in panel.slots], panel.common, panel.inputs, panel.shared, js=TYPED, **quiet)
    outputs = [panel.order, *(part for slot in panel.slots for part in (slot.on, slot.strength))]
    for index, slot in enumerate(panel.slots):
        for button, by in ((slot.up, -1), (slot.down, 1)):
            def move(values: dict[Any, Any], index: int = index, by: int = by) -> dict[Any, Any]:
                return reordered(panel, known, values, moved(values[panel.order], index, by))

            button.click(move, panel.inputs, outputs, **quiet)


def reordered(
    panel: PatchPanel, known: Mapping[str, Manifest], values: Mapping[Any, Any], order: Sequence[str]
) -> dict[Any, Any]:
    """The updates that show the patches in a new order, each with the tick and strength it had."""
    had = {name: (values[slot.on], values[slot.strength])
           for name, slot in zip(values[panel.order], panel.slots, strict=True)}
    updates: dict[Any, Any] = {panel.order: list(order)}
    for name, slot in zip(order, panel.slots, strict=True):
        on, strength = had[name]
        manifest = known[name]
        updates[slot.on] = gr.update(value=on, label=manifest.title, info=manifest.summary)
        updates[slot.strength] = gr.update(value=strength, label=_strength_label(manifest))
    return updates
