"""What happens when a visitor adds a further column to Compare or removes one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import BusyError, PatchLabError
from patchlab.ui import charts, copy
from patchlab.ui.compare import column_words, more_columns
from patchlab.ui.compare.kept_runs import Ran
from patchlab.ui.compare.layout import Results
from patchlab.ui.compare.patch_panel import PatchPanel
from patchlab.ui.session import OtherStack, RunRequest, View
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab

Updates = dict[Any, Any]


class ColumnChanges:
    """The handlers of the buttons; `shown` draws a run, `going` are the visitors whose run is going."""

    def __init__(self, lab: Lab, panel: PatchPanel, results: Results, shown: Callable[[View, RunRequest], Updates],
                 going: Collection[str]) -> None:
        self.lab, self.panel, self.results, self.shown, self.going = lab, panel, results, shown, going
        more = results.more
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        more.add.click(self.add, panel.inputs | results.inputs | {more.source}, results.all, **quiet)
        for index, button in enumerate(more.removes):
            button.click(self.removing(index), results.inputs, results.all, **quiet)

    def add(self, values: Mapping[Any, Any], request: gr.Request) -> Updates:
        """A further column, for the next run; an error is one line."""
        r, more = self.results, self.results.more
        try:
            self._idle(request)
            others = more_columns.chosen(self.lab, self.panel, values[more.source] or "", values, values[more.added])
        except PatchLabError as error:
            return {r.status: status(copy.sentence(str(error)), problem=True)}
        words = column_words.ADDED.format(title=copy.lane_words(others[-1].lane).title)
        return self._drawn(others, values[r.ran]) | {r.status: status(words)}

    def removing(self, index: int) -> Callable[[Mapping[Any, Any], gr.Request], Updates]:
        """The handler that removes the further column in a place."""
        def remove(values: Mapping[Any, Any], request: gr.Request) -> Updates:
            return self.remove(index, values, request)

        return remove

    def remove(self, index: int, values: Mapping[Any, Any], request: gr.Request) -> Updates:
        """The page without a further column, and the last run without its replies; an error is one line."""
        r, others, last = self.results, list(values[self.results.more.added]), values[self.results.ran]
        try:
            self._idle(request)
        except PatchLabError as error:
            return {r.status: status(copy.sentence(str(error)), problem=True)}
        if index >= len(others):  # a second click on a button that is about to go
            return {r.status: gr.skip()}
        gone = others.pop(index)
        last = last.without(gone.lane) if last else None
        words = column_words.REMOVED.format(title=copy.lane_words(gone.lane).title)
        return self._drawn(others, last) | {r.ran: last, r.status: status(words)}

    def _idle(self, request: gr.Request) -> None:
        """Raise BusyError while the visitor's run is going: it writes the columns that it began with."""
        if str(request.session_hash) in self.going:
            raise BusyError(column_words.BUSY, expected="the end of the run", do="wait for it, or press Stop")

    def _drawn(self, others: Sequence[OtherStack], last: Ran | None) -> Updates:
        """The page with these further columns, and what the last run wrote."""
        found = self.results.more.updates(self.lab, others)
        if last is not None:
            return found | self.shown(last.view, last.request)
        names = [*self.lab.lane_names, *(each.lane for each in others)]
        return found | {chart: charts.figure(claim, names) for claim, chart in self.results.charts.items()}
