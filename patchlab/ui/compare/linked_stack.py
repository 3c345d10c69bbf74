"""The stack's controls as a link says them, and set as a link says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchlab.patches.stack import Entry
from patchlab.ui.compare.patch_panel import PatchPanel, reordered
from patchlab.ui.share.link_codec import LinkPatch, short


@dataclass(frozen=True, slots=True)
class LinkedStack:
    """Which patches are on, how strongly and in which order, for `LinkPanel`."""

    panel: PatchPanel

    @property
    def parts(self) -> list[Any]:
        """The components that hold it, always in the same order."""
        return [self.panel.order, *(part for slot in self.panel.places for part in (slot.on, slot.strength))]

    def said(self, values: Mapping[Any, Any]) -> tuple[LinkPatch, ...]:
        """The patches that the components' values describe."""
        known, slots = self.panel.known, self.panel.places
        return tuple(LinkPatch(Entry(name, float(values[slot.strength]), known[name].version), bool(values[slot.on]))
                     for name, slot in zip(values[self.panel.order], slots, strict=False))

    def applied(self, wanted: Sequence[LinkPatch], left: list[str]) -> dict[Any, Any]:
        """The updates that set the patches as wanted, those not named last and off; what cannot be set is added to `left`."""
        panel, known = self.panel, self.panel.known
        by_name = {each.entry.name: each for each in wanted if each.entry.name in known}
        for each in wanted:
            here = known[each.entry.name].version if each.entry.name in known else None
            if here is None:
                left.append(f"patch {short(each.entry.name)}")
            elif each.entry.version not in (None, here):
                left.append(f"{each.entry.name} {short(str(each.entry.version))} (here it is {here})")
        order = [*by_name, *(name for name in known if name not in by_name)][:len(panel.places)]
        values: dict[Any, Any] = {panel.order: order}
        for name, slot in zip(order, panel.places, strict=False):
            said, on = by_name.get(name, LinkPatch(Entry(name), on=False))
            values |= {slot.on: on, slot.strength: known[name].strength if said.strength is None else said.strength}
        return reordered(panel, known, values, order)
