"""How the tabs of one page hear of each other: a patch that one of them installs gets its switches in the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import gradio as gr


@runtime_checkable
class Installs(Protocol):
    """A tab that installs patches: a state with the names of those that its visitor installed, which new controls begin with."""

    installed: gr.State


@runtime_checkable
class Joins(Protocol):
    """A tab that takes something from others."""

    def join(self, tabs: Sequence[object], opening: Sequence[Any]) -> None:
        """Connect with `tabs`, all of the page's in order; `opening` are the events of a page that is opened."""
        ...


def connect(tabs: Sequence[object], opening: Sequence[Any] = ()) -> None:
    """Connect the tabs that were placed."""
    for tab in tabs:
        if isinstance(tab, Joins):
            tab.join(tabs, opening)


def installing(tabs: Sequence[object]) -> list[gr.State]:
    """The states of the tabs that install patches; each changes when a patch was installed."""
    return [tab.installed for tab in tabs if isinstance(tab, Installs)]
