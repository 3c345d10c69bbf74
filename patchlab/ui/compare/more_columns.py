"""Further columns of Compare: the same model with another stack, chosen by the visitor and frozen when it is added.

Their columns and buttons are placed with the tab and shown when they are needed, so that no chart and no column is built anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import InputError
from patchlab.registry.profiles import client_stack, find_profiles
from patchlab.ui import copy
from patchlab.ui.compare import column_words, reply_columns
from patchlab.ui.compare.kept_runs import MAX_LABEL, OTHERS
from patchlab.ui.session import OtherStack

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.patches import Stack
    from patchlab.ui.compare.patch_panel import PatchPanel

Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class MoreColumns:
    """The components that add further columns and remove them; `added` holds the stacks."""

    added: gr.State
    source: gr.Dropdown
    add: gr.Button
    removes: tuple[gr.Button, ...]
    columns: tuple[gr.HTML, ...]
    heads: Mapping[str, gr.HTML]  # a title and legend for each chart

    @property
    def outputs(self) -> list[Any]:
        """Every component that another set of columns changes."""
        return [self.added, self.add, *self.removes, *self.columns, *self.heads.values()]

    def updates(self, lab: Lab, others: Sequence[OtherStack]) -> Updates:
        """The updates that show these further columns, without replies, and no other."""
        found: Updates = {self.added: tuple(others), self.add: gr.update(interactive=len(others) < len(OTHERS))}
        for index, (column, remove) in enumerate(zip(self.columns, self.removes, strict=True)):
            other = others[index] if index < len(others) else None
            title = copy.lane_words(other.lane).title if other else ""
            found[column] = gr.update(visible=False) if other is None else gr.update(
                value=reply_columns.empty(other.lane, len(lab.lane_names) + index, other.label), visible=True)
            found[remove] = gr.update(visible=other is not None, value=column_words.REMOVE.format(title=title))
        names = [*lab.lane_names, *(each.lane for each in others)]
        return found | {head: reply_columns.chart_head(claim, names) for claim, head in self.heads.items()}


def place(lab: Lab) -> tuple[gr.Dropdown, gr.Button, tuple[gr.Button, ...]]:
    """Place the choice of a stack, the button that adds it, and hidden ones that remove columns."""
    profiles, _ = find_profiles(lab.base.fingerprints)
    with gr.Accordion(column_words.TITLE, open=False, elem_id="more-columns"):
        source = gr.Dropdown([(column_words.NOW, ""), *((column_words.PROFILE.format(name=name), name) for name in profiles)],
                             value="", label=column_words.SOURCE, info=column_words.NOTE, filterable=False, interactive=True,
                             elem_id="column-source", min_width=0)
        add = gr.Button(column_words.ADD, size="sm", elem_id="add-column", min_width=0)
        removes = tuple(gr.Button(column_words.REMOVE.format(title=copy.lane_words(lane).title), size="sm", visible=False,
                                  elem_id=f"remove-{lane.replace(' ', '-')}", min_width=0) for lane in OTHERS)
    return source, add, removes


def columns(lab: Lab) -> tuple[gr.HTML, ...]:
    """Place the hidden further columns."""
    return tuple(gr.HTML(reply_columns.empty(lane, len(lab.lane_names) + index), apply_default_css=False, visible=False,
                         elem_id=f"lane-more-{index + 1}") for index, lane in enumerate(OTHERS))


def chosen(lab: Lab, panel: PatchPanel, source: str, values: Mapping[Any, Any],
           others: Sequence[OtherStack]) -> tuple[OtherStack, ...]:
    """The further columns with one more: a client's profile, or the patches as they are ticked.

    Raises InputError where there is no room, and as `client_stack` for a profile.
    """
    free = [lane for lane in OTHERS if lane not in {each.lane for each in others}]
    if not free:
        raise InputError(column_words.FULL, expected=f"at most {len(OTHERS)}", do="remove one first")
    if source:
        made = OtherStack(free[0], column_words.PROFILE.format(name=source),
                          client_stack(source, lab.base.fingerprints, lab.registry))
    else:
        stack = panel.stack(values)
        made = OtherStack(free[0], label(stack, panel), stack)
    return (*others, made)


def require_known(others: Sequence[OtherStack], known: Sequence[OtherStack]) -> None:
    """Raise InputError for a further column that a conversation did not have so far."""
    for each in others:
        if each not in known:
            raise InputError(column_words.NEW_COLUMN.format(title=copy.lane_words(each.lane).title),
                             expected="the columns it had so far", do="begin a new conversation, or remove the column")


def label(stack: Stack, panel: PatchPanel) -> str:
    """A stack as the page says it: titles with strengths, how they are combined, and whether gates decide."""
    on = [f"{panel.known[each.name].title} {each.strength:g}" for each in stack.entries if each.strength]
    words = copy.JOINED[stack.mode].join(on) or column_words.NO_PATCH
    return (words + (column_words.GATED if stack.gates and on else ""))[:MAX_LABEL]
