"""The controls of the stack: which patches are on, how strongly, in which order and mode.

The panel has one slot a patch; `order` says which patch stands in which slot, so moving a patch moves words and values
between slots and never a component. Some slots are spare: a patch that is installed while the page is open gets one of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
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

SPARE = 8  # patches that may be installed while the server runs and get controls; more do at its next start
NAMED = re.compile(r"'([a-z0-9-]+)'")  # how warnings name a patch

# what is being typed into a slider's number field: nothing yet is 0, and what is out of range the nearest
TYPED = f"""(...values) => values.map((value) =>
  value === null ? 0 : typeof value === "number" ? Math.min(Math.max(value, 0), {MAX_STRENGTH:g}) : value)"""


@dataclass(frozen=True, slots=True)
class PatchControls:
    """The components of one patch."""

    box: gr.Column
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
    known: dict[str, Manifest]  # those that the panel has or had controls for
    heading: gr.HTML
    spare: tuple[PatchControls, ...]
    first: Mapping[str, Manifest]  # those that were installed when the panel was placed

    @property
    def places(self) -> tuple[PatchControls, ...]:
        """All slots, the spare ones last."""
        return (*self.slots, *self.spare)

    @property
    def inputs(self) -> set[Any]:
        """Every component a stack is read from."""
        return {self.order, self.mode, self.shared, self.gates, *(slot.on for slot in self.places),
                *(slot.strength for slot in self.places)}

    @property
    def changes(self) -> list[Any]:
        """The events after which the stack may be another one."""
        return [self.order.change, self.mode.change, self.shared.change, self.gates.change,
                *(part.change for slot in self.places for part in (slot.on, slot.strength))]

    @property
    def choices(self) -> list[Any]:
        """Those that a visitor causes, once each: `change` comes twice, and also where the page itself has changed a value."""
        return [self.order.change, self.mode.input, self.shared.change, self.gates.input,
                *(part.input for slot in self.places for part in (slot.on, slot.strength))]

    @property
    def renewable(self) -> list[Any]:
        """Every component that another set of installed patches changes."""
        return [self.order, self.heading, self.mode, self.gates, *(part for slot in self.places for part in (
            slot.box, slot.on, slot.strength, slot.up, slot.down))]

    def stack(self, values: Mapping[Any, Any]) -> Stack:
        """The stack that the components' values describe."""
        names: Sequence[str] = values[self.order]
        ticked = {name: float(values[slot.strength])
                  for name, slot in zip(names, self.places, strict=False) if values[slot.on]}
        return stack_of(names, ticked, mode=values[self.mode], shared=float(values[self.shared]),
                        gates=bool(values[self.gates]))

    def strength(self, name: str, values: Mapping[Any, Any]) -> float:
        """The strength that is set for a patch, ticked or not."""
        one = self.shared if values[self.mode] == "sequential" else self.places[values[self.order].index(name)].strength
        return float(values[one])

    def common(self, values: Mapping[Any, Any]) -> float:
        """The strength that a sequence of the ticked patches gets where none is set."""
        ticked = tuple(Entry(name) for name, slot in zip(values[self.order], self.places, strict=False) if values[slot.on])
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

    def renewed(self, values: Mapping[Any, Any], tick: Collection[str] = ()) -> dict[Any, Any]:
        """The updates that give every installed patch its controls, and none to one that is gone.

        What a visitor set stays. A patch that the panel had no controls for is off, unless it is one of `tick`.
        """
        now = {installed.manifest.name: installed.manifest for installed in self.planner.installed()}
        before: Sequence[str] = values[self.order]
        names = [*(name for name in before if name in now), *(name for name in now if name not in before)][:len(self.places)]
        if names == [*before] and all(now[name] == self.first.get(name) for name in names):
            return {self.order: gr.skip()}
        self.known.update(now)
        had = {name: (values[slot.on], values[slot.strength]) for name, slot in zip(before, self.places, strict=False)}
        updates: dict[Any, Any] = {
            self.order: names, self.heading: _heading(len(now), len(now) - len(names)),
            self.mode: gr.update(visible=len(names) > 1),
            self.gates: gr.update(visible=any(manifest.gated for manifest in now.values()))}
        for index, (name, slot) in enumerate(zip(names, self.places, strict=False)):
            on, strength = had.get(name, (name in tick, now[name].strength))
            updates |= _shown(slot, now[name], on, strength) | {
                slot.box: gr.update(visible=True), slot.up: gr.update(interactive=index > 0),
                slot.down: gr.update(interactive=index < len(names) - 1)}
        for slot in self.places[len(names):]:
            updates |= {slot.box: gr.update(visible=False), slot.on: False}
        return updates

    def told(self, warnings: Sequence[str]) -> str:
        """The warnings of a plan as HTML, with the titles of patches in place of their names."""
        titled = [NAMED.sub(lambda name: f"“{self.known[name[1]].title}”" if name[1] in self.known else name[0], words)
                  for words in warnings]
        return "".join(f'<p class="warning">{escaped(words)}</p>' for words in titled)


def build(planner: Planner, *, gates: bool = False) -> PatchPanel:
    """Place the components of the patches that are installed for the planner's base, with gates on or off, and connect them."""
    known = {installed.manifest.name: installed.manifest for installed in planner.installed()}
    heading = gr.HTML(_heading(len(known)), apply_default_css=False)
    order = gr.State(list(known))
    slots = tuple(_slot(manifest, index, len(known)) for index, manifest in enumerate(known.values()))
    spare = tuple(_slot(None, len(known) + index, len(known)) for index in range(SPARE))
    several = len(known) > 1
    mode = gr.Radio(copy.MODES, value="parallel", label=copy.MODE_LABEL, info=copy.MODES_NOTE, visible=several, interactive=True,
                    elem_id="mode")
    shared = gr.Slider(0, MAX_STRENGTH, value=1.0, step=0.01, label=copy.SHARED_STRENGTH, visible=False,
                       elem_id="shared", buttons=[], interactive=True)
    gated = any(manifest.gated for manifest in known.values())
    use_gates = gr.Checkbox(gates and gated, label=copy.GATES_LABEL, info=copy.GATES_NOTE, elem_id="gates",
                            visible=gated, interactive=True)
    warning = gr.HTML("", apply_default_css=False, elem_id="warning")
    if known:
        gr.HTML(f"<p class='note'>{copy.PATCHES_NOTE}</p>", apply_default_css=False)
    panel = PatchPanel(order, slots, mode, shared, use_gates, warning, planner, known, heading, spare, dict(known))
    shared.value, warning.value = panel.common(panel.begun), panel.warned(panel.begun)
    _connect(panel)
    return panel


def follow(panel: PatchPanel, events: Sequence[Any], installed: Sequence[gr.State]) -> None:
    """Renew the panel at these events; the states hold the names of patches that are to be ticked when they are new."""
    def renew(values: dict[Any, Any]) -> dict[Any, Any]:
        return panel.renewed(values, {name for state in installed for name in values[state]})

    gr.on(events, renew, panel.inputs | {*installed}, panel.renewable, queue=False, show_progress="hidden",
          api_visibility="private", trigger_mode="multiple")


def _heading(patches: int, left_out: int = 0) -> str:
    """The panel's title, with a sentence where there is no patch, or more than there are controls for."""
    said = "" if patches and not left_out else copy.NO_PATCHES if not patches else copy.MORE_PATCHES.format(count=left_out)
    return f"<h2>{copy.PATCHES_TITLE}</h2>" + (f"<p class='note'>{said}</p>" if said else "")


def _slot(manifest: Manifest | None, index: int, count: int) -> PatchControls:
    """The controls of a patch, or spare ones, which are not shown."""
    with gr.Column(elem_classes=["patch-slot"], min_width=0, visible=manifest is not None) as box:
        title, info, value = (manifest.title, manifest.summary, manifest.strength) if manifest else ("", "", 1.0)
        on = gr.Checkbox(manifest is not None, label=title, info=info, interactive=True, min_width=0)
        strength = gr.Slider(0, MAX_STRENGTH, value=value, step=0.05, label=f"Strength: {title}", min_width=0, buttons=[],
                             interactive=True, elem_classes=["strength"])
        with gr.Row(visible=False, elem_classes=["moves"]) as moves:
            up = gr.Button("Move earlier", size="sm", scale=0, min_width=110, interactive=index > 0)
            down = gr.Button("Move later", size="sm", scale=0, min_width=110, interactive=index < count - 1)
    return PatchControls(box, on, strength, moves, up, down)


def _shown(slot: PatchControls, manifest: Manifest, on: bool, strength: float) -> dict[Any, Any]:
    """The updates that show a patch in a slot."""
    return {slot.on: gr.update(value=on, label=manifest.title, info=manifest.summary),
            slot.strength: gr.update(value=strength, label=f"Strength: {manifest.title}")}


def _connect(panel: PatchPanel) -> None:
    def show_mode(values: dict[Any, Any]) -> dict[Any, Any]:
        """Order and one common strength belong to sequential mode, a strength a patch to every other."""
        one = values[panel.mode] == "sequential"
        shown: dict[Any, Any] = {panel.shared: gr.update(visible=one)}
        for slot in panel.places:
            shown |= {slot.strength: gr.update(visible=not one), slot.moves: gr.update(visible=one)}
        return shown

    changed = [panel.shared, *(part for slot in panel.places for part in (slot.strength, slot.moves))]
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    panel.mode.change(show_mode, panel.inputs, changed, js=TYPED, **quiet)
    gr.on(panel.changes, panel.warned, panel.inputs, panel.warning, trigger_mode="always_last", js=TYPED, **quiet)
    # what a visitor does sets the common strength anew where it counts; a link that sets all of these says it itself
    gr.on([panel.mode.input, *(slot.on.input for slot in panel.places)],
          lambda values: panel.common(values) if values[panel.mode] == "sequential" else gr.skip(), panel.inputs, panel.shared,
          js=TYPED, **quiet)
    outputs = [panel.order, *(part for slot in panel.places for part in (slot.on, slot.strength))]
    for index, slot in enumerate(panel.places):
        for button, by in ((slot.up, -1), (slot.down, 1)):
            def move(values: dict[Any, Any], index: int = index, by: int = by) -> dict[Any, Any]:
                return reordered(panel, panel.known, values, moved(values[panel.order], index, by))

            button.click(move, panel.inputs, outputs, **quiet)


def reordered(
    panel: PatchPanel, known: Mapping[str, Manifest], values: Mapping[Any, Any], order: Sequence[str]
) -> dict[Any, Any]:
    """The updates that show the patches in a new order, each with the tick and strength it had."""
    had = {name: (values[slot.on], values[slot.strength])
           for name, slot in zip(values[panel.order], panel.places, strict=False)}
    updates: dict[Any, Any] = {panel.order: list(order)}
    for name, slot in zip(order, panel.places, strict=False):
        updates |= _shown(slot, known[name], *had[name])
    return updates
