"""What happens to a run that ended: the browser keeps it, shows it again, and saves it as a file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from patchlab.errors import PatchLabError
from patchlab.ui import copy
from patchlab.ui.compare import history, kept_runs, run_export
from patchlab.ui.compare.kept_runs import Ran
from patchlab.ui.compare.layout import Controls, Results
from patchlab.ui.share import share_words
from patchlab.ui.share.link_panel import applied, parts
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.ui.session import OtherStack, RunRequest, View

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Updates = dict[Any, Any]


class Shows(NamedTuple):
    """What the tab does with a run that is shown again: its updates, and the end of a run that is going."""

    shown: Callable[[View, RunRequest], Updates]
    stop: Callable[[gr.Request], Any]
    columns: Callable[[Sequence[OtherStack]], Updates]


def offered(view: View | None) -> Updates:
    """The choice to go on in a conversation: hidden after a continued text and before any run."""
    return gr.update(visible=True) if view and view.prompt.kind == "chat" else gr.update(visible=False, value="new")


class KeptRuns:
    """The handlers of a Compare tab's list of runs."""

    def __init__(self, lab: Lab, controls: Controls, results: Results, settings: Mapping[str, Any], shows: Shows) -> None:
        self.known = controls.panel.known
        self.lab, self.keep, self.results, self.settings, self.shows = lab, controls.keeping, results, settings, shows
        keep, r, preset = self.keep, results, json.dumps(lab.name)
        r.kept.change(None, r.kept, None, js=f"(text) => window.patchlabKeep({preset}, text)", queue=False, **QUIET)
        keep.clear.click(lambda: ([], history.table([]), ""), None, [r.rows, r.table, r.kept], queue=False,
                         js=f"() => window.patchlabForget({preset})", **QUIET)
        keep.again.click(self.recall, keep.record, [*r.all, *parts(settings)],
                         js=f"() => [window.patchlabRecalled({preset})]", **QUIET)
        for button, made, name in ((keep.json, run_export.as_json, "run.json"), (keep.csv, run_export.as_csv, "run.csv")):
            button.click(self.saving(made), r.ran, [r.status, keep.file], queue=False, **QUIET).then(
                None, keep.file, None, js=f"(text) => window.patchlabSave(text, 'patchlab-{name}')", **QUIET)

    def listed(self, trigger: Any) -> None:
        """At an event fill the list with what the browser kept."""
        r, preset = self.results, json.dumps(self.lab.name)
        trigger(self.rows, self.keep.record, [r.rows, r.table], js=f"() => [window.patchlabListed({preset})]",
                queue=False, **QUIET)

    def rows(self, text: str) -> Updates:
        """The list of runs that a browser kept."""
        rows = kept_runs.listed(text or "")
        return {self.results.rows: rows, self.results.table: history.table(rows)}

    def ended(self, ran: Ran, values: Mapping[Any, Any]) -> Updates:
        """The list with a run added, the run for the browser to keep, and the run to go on from."""
        titles = {name: manifest.title for name, manifest in self.known.items()}
        r, row = self.results, replace(history.row(ran.view, titles), key=secrets.token_hex(8))
        rows = history.added(values[r.rows], row)
        return {r.rows: rows, r.table: history.table(rows), r.ran: ran, r.talk: offered(ran.view),
                r.kept: kept_runs.record(ran, row)}

    def recall(self, text: str, request: gr.Request) -> Updates:
        """A kept run on the page again, with its settings."""
        self.shows.stop(request)
        try:
            ran = kept_runs.recalled(text or "", self.lab.lane_names)
        except PatchLabError as error:
            return {self.results.status: status(copy.sentence(str(error)), problem=True)}
        r = self.results
        return (self.shows.columns(ran.request.others) | self.shows.shown(ran.view, ran.request)
                | applied(kept_runs.settings_of(ran.request), self.settings, [])
                | {r.ran: ran, r.talk: offered(ran.view) | ({"value": "same"} if ran.view.turns else {}),
                   r.status: status(share_words.RECALLED)})

    def saving(self, made: Callable[[Ran], str]) -> Callable[[Ran | None], Updates]:
        """The handler that makes a file of the last run."""
        def save(ran: Ran | None) -> Updates:
            if ran is None:
                return {self.results.status: status(share_words.NOTHING_TO_SAVE, problem=True), self.keep.file: ""}
            return {self.keep.file: made(ran)}

        return save
