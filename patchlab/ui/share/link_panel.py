"""The Share button's link of what is set on the page, and the page set as the link in its address says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

import gradio as gr

from patchlab.errors import PatchLabError
from patchlab.ui import copy
from patchlab.ui.diff import escaped
from patchlab.ui.share import share_words
from patchlab.ui.share.link_codec import LinkPatch, LinkSettings, parsed, query, short

if TYPE_CHECKING:
    from patchlab.engine import Lab

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
ADDRESS = "window.patchlabAddress()"  # the settings that the address says, in the browser
PATCHES = "patches"
Updates = dict[Any, Any]


class Stacked(Protocol):
    """The patches of a tab, which several components hold together."""

    @property
    def parts(self) -> list[Any]:
        """Those components."""
        ...

    def said(self, values: Mapping[Any, Any]) -> tuple[LinkPatch, ...]:
        """What their values describe."""
        ...

    def applied(self, wanted: Sequence[LinkPatch], left: list[str]) -> Updates:
        """The updates that set them; what cannot be set is added to `left` in words."""
        ...


class LinkPanel:
    """Hidden components of a set of placed tabs, and the handlers of their links.

    A tab says in `linked` which component holds which setting of a link, by the names of `LinkSettings`.
    """

    def __init__(self, lab: Lab, placed: Sequence[Any], tabs: gr.Tabs, labels: Sequence[str], presets: Collection[str]) -> None:
        self.lab, self.placed, self.tabs, self.labels, self.presets = lab, placed, tabs, labels, presets
        self.settings: dict[str, Any] = {name: each for tab in placed for name, each in getattr(tab, "linked", {}).items()}
        self.where, self.tab, self.go = (gr.Textbox(visible=False) for _ in range(3))
        self.note = gr.HTML("", apply_default_css=False, elem_classes=["link-note"])
        self.box = gr.HTML("", apply_default_css=False, elem_id="share-box")
        button = gr.Button(copy.SHARE, visible="hidden", elem_classes=["share-make"])
        inputs = [self.tab, *parts(self.settings)]

        def make(*values: Any) -> str:
            return self.made(dict(zip(inputs, values, strict=True)))

        button.click(make, inputs, self.box, js="(_, ...values) => [window.patchlabTab(), ...values]", **QUIET).then(
            None, None, None, js="() => window.patchlabShared()", **QUIET)

    @property
    def outputs(self) -> list[Any]:
        """Every component that a link may set."""
        return [self.tabs, self.go, self.note, *parts(self.settings)]

    def begin(self, trigger: Any, *, by_link: bool | None = None) -> None:
        """At the event after the tabs' placing let them fill themselves, set what the address says, and run where it asks so.

        `by_link` says of tabs that are placed later whether the address chose their preset: only then are its settings theirs.
        """
        for tab in self.placed:
            if hasattr(tab, "placed"):
                tab.placed(trigger)
        if by_link is False:
            return
        address = ADDRESS if by_link is None else "window.patchlabAddress(true)"
        trigger(self.opened, self.where, self.outputs, js=f"() => [{address}]", **QUIET).then(
            None, self.go, None, js="(go) => { if (go) window.patchlabRun(); }", **QUIET)

    def made(self, values: Mapping[Any, Any]) -> str:
        """The box with the link of these values, or with what is wrong with them."""
        try:
            link = escaped(self.query(values))
            return (f'<section class="share-box" role="dialog" aria-label="{share_words.TITLE}">'
                    f'<p class="share-said" role="status"></p>'
                    f'<input readonly aria-label="{share_words.LABEL}" data-query="{link}">'
                    f'<p class="note">{share_words.NOTE}</p></section>')
        except PatchLabError as error:
            return f'<section class="share-box"><p role="alert">{escaped(copy.sentence(str(error)))}</p></section>'

    def query(self, values: Mapping[Any, Any]) -> str:
        """The query that says these values. Raises InputError for more than a link may hold."""
        said: dict[str, Any] = {name: each.said(values) if name == PATCHES else values[each]
                                for name, each in self.settings.items()}
        for name in {"length", "samples"} & said.keys():
            said[name] = int(said[name])
        return query(LinkSettings(**said, preset=self.lab.name, tab=str(values.get(self.tab) or self.labels[0]).casefold()))

    def opened(self, text: str) -> Updates:
        """What the query of an address sets; a preset that is another of the page's is somebody else's to set."""
        wanted, left = parsed(text or "")
        if wanted.preset not in (None, self.lab.name):
            if wanted.preset in self.presets:
                return {self.go: ""}
            left.append(f"preset {short(str(wanted.preset))}")
        updates = applied(wanted, self.settings, left)
        found = [label for label in self.labels if label.casefold() == (wanted.tab or "").casefold()]
        left += [f"tab {short(wanted.tab)}"] if wanted.tab is not None and not found else []
        # the first is in front already; to say so again would build it anew
        updates |= {self.tabs: gr.update(selected=found[0])} if found and found[0] != self.labels[0] else {}
        return updates | {self.go: "1" if wanted.run else ""} | ({self.note: note(left)} if text else {})


def parts(settings: Mapping[str, Any]) -> list[Any]:
    """The components of settings, those of patches among them."""
    return [part for name, each in settings.items() for part in (each.parts if name == PATCHES else [each])]


def applied(wanted: LinkSettings, settings: Mapping[str, Any], left: list[str]) -> Updates:
    """The updates that set components as a link says; what cannot be set is added to `left` in words."""
    updates: Updates = {}
    for name in (each.name for each in fields(wanted)):
        value, part = getattr(wanted, name), settings.get(name)
        if value is None or name in ("preset", "tab", "run"):
            continue
        if part is not None and name == PATCHES:
            updates |= part.applied(value, left)
        elif part is not None and fits(part, value):
            updates[part] = value
        else:
            left.append(name if name == PATCHES else f"{name} {short(str(value))}")
    return updates


def fits(part: Any, value: Any) -> bool:
    """Whether a component can have a value that somebody else chose."""
    if isinstance(part, gr.Slider):
        return bool(part.minimum <= value <= part.maximum)
    if isinstance(part, (gr.Radio, gr.Dropdown)):
        return value in [choice for _, choice in part.choices]
    return True


def note(left: Sequence[str]) -> str:
    """The line that says what of a link was left out; empty where nothing was."""
    if not left:
        return ""
    more = f" and {len(left) - 4} more" if len(left) > 4 else ""
    return f'<p class="status alert" role="alert">{escaped(share_words.LEFT_OUT.format(what=", ".join(left[:4]) + more))}</p>'
