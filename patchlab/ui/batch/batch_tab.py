"""The Batch tab: many prompts asked of all lanes, rates with intervals, a table with filters, and files to take along.

A batch runs in a thread of the server (`Batches`); the tab looks after it once a second. The browser keeps its key, so that a
page that is loaded again, or opened days later, shows the batch it left.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import InputError, NotFoundError, PatchLabError
from patchlab.patches.stack import Entry, Stack
from patchlab.records import Prompt
from patchlab.registry.profiles import SECOND_LANE, client_stack
from patchlab.ui import between_tabs, copy
from patchlab.ui.batch import batch_layout, batch_prompts, batch_table, batch_words
from patchlab.ui.batch.batch_layout import BatchInputs, BatchOutputs
from patchlab.ui.batch.batch_results import BATCHES, exported, exports, judged_rows, rows_of
from patchlab.ui.batch.batch_store import ACTIVE, BatchSettings, BatchState, SecondClient
from patchlab.ui.batch.votes import voted
from patchlab.ui.compare.tab import seed
from patchlab.ui.kept_job import acting
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Updates = dict[Any, Any]


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None) -> BatchTab:
    """Place the tab's components in the open Blocks, connect them, and give back their handlers."""
    inputs, outputs, export = batch_layout.place(lab)
    tab = BatchTab(lab, inputs, outputs)
    connect(tab, export)
    return tab


def connect(tab: BatchTab, export: gr.Button) -> None:
    """Let the components call the tab's handlers."""
    i, o = tab.inputs, tab.outputs
    look: set[Any] = {o.key.kept, o.key.started, o.shown, o.page, o.filter}
    o.key.follow(tab.look, look, o.all, **QUIET)
    o.run.click(tab.start, i.all | look, o.all, **QUIET)
    for button, act in ((o.stop, BATCHES.stop), (o.resume, partial(BATCHES.resume, tab.lab)), (o.remove, tab.removed)):
        button.click(acting(act, o.key, o.line, tab.look), look, o.all, **QUIET)
    o.filter.input(tab.first_page, look, o.all, **QUIET)
    for button, by in ((o.previous, -1), (o.next, 1)):
        button.click(tab.turning(by), look, o.all, **QUIET)
    o.table.input(tab.vote, {o.key.kept, o.key.started}, [o.rates, o.line, o.file], trigger_mode="multiple", **QUIET)
    export.click(tab.export, {o.key.kept, o.key.started, o.filter, o.format}, [o.file, o.line], **QUIET)
    i.source.input(tab.sources, i.source, [i.pasted, i.upload, i.suite, i.count, i.kind], **QUIET)


class BatchTab:
    """The tab's handlers: plain methods from component values to component values."""

    def __init__(self, lab: Lab, inputs: BatchInputs, outputs: BatchOutputs) -> None:
        self.lab, self.inputs, self.outputs = lab, inputs, outputs

    @property
    def settings(self) -> dict[str, Any]:
        """What of the tab a link holds, by the names of `LinkSettings`."""
        return {"profile": self.inputs.profile}

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page or chose another preset: their batch goes on."""

    def join(self, tabs: Sequence[object], opening: Sequence[Any]) -> None:
        """Offer every patch that is installed later."""
        i, events = self.inputs, [*opening, *(state.change for state in between_tabs.installing(tabs))]
        gr.on(events, self.offered, None, [i.patches, i.mode], queue=False, **QUIET)

    def offered(self) -> list[Any]:
        """The choice of patches, and of how several are combined, as it is now."""
        manifests = [installed.manifest for installed in self.lab.planner.installed()]
        return [gr.update(choices=batch_layout.choices(manifests)), gr.update(visible=len(manifests) > 1)]

    def start(self, values: Mapping[Any, Any]) -> Updates:
        """Check and store the prompts and run them; an error is one line and starts nothing."""
        try:
            settings, prompts = self.asked(values)
            key = BATCHES.start(self.lab, settings, prompts)
        except PatchLabError as error:
            return {self.outputs.line: status(copy.sentence(str(error)), problem=True)}
        except Exception:  # the page outlives any batch
            log.exception("a batch could not be started")
            return {self.outputs.line: status(batch_words.UNEXPECTED, problem=True)}
        return self.view(key, "", 0, values[self.outputs.filter])

    def asked(self, values: Mapping[Any, Any]) -> tuple[BatchSettings, list[Prompt]]:
        """Settings and prompts that the components' values describe. Raises PatchLabError."""
        notes: list[str] = []
        i, source = self.inputs, values[self.inputs.source]
        kind, name = values[i.kind], str(values[i.suite])
        if source == "suite":
            prompts = batch_prompts.of_suite(name, int(values[i.count]))
        elif source == "upload":
            if not values[i.upload]:
                raise InputError("no file", expected="one with prompts", do="upload one, or paste prompts")
            path = Path(values[i.upload])
            name, prompts = path.name[:60], batch_prompts.uploaded(path, kind, notes)
        else:
            prompts = batch_prompts.pasted(values[i.pasted] or "", kind)
        stack, second = self.stack(values), self.second(values)
        settings = BatchSettings(
            preset=self.lab.name, stack=str(stack), mode=stack.mode, gates=stack.gates, max_new_tokens=int(values[i.length]),
            temperature=float(values[i.temperature]), seed=seed(values[i.seed]), source=batch_words.source(source, name),
            lanes=self.lab.names_with([second.lane] if second else ()), placement=stack.placement, second=second)
        plans = [self.lab.planner.plan(each) for each in (stack, *([second.parsed] if second else []))]
        notes += dict.fromkeys(said for plan in plans for said in plan.warnings)
        notes += [batch_words.FIRST_CLIENT.format(name=values[i.profile])] if second and values[i.profile] else []

        def check(prompt: Prompt) -> None:
            for plan in plans:
                self.lab.check(prompt, plan=plan, sampling=settings.sampling)

        fitting = batch_prompts.fitting(prompts, check, notes)
        return replace(settings, notes=tuple(notes)), fitting

    def stack(self, values: Mapping[Any, Any]) -> Stack:
        """The stack of the chosen profile, else of the ticked patches. Raises PatchLabError for a profile that does not hold."""
        i = self.inputs
        if values[i.profile]:
            return client_stack(values[i.profile], self.lab.base.fingerprints, self.lab.registry)
        known = [installed.manifest.name for installed in self.lab.planner.installed()]
        return Stack(tuple(Entry(each) for each in known if each in (values[i.patches] or ())), values[i.mode],
                     bool(values[i.gates]))

    def second(self, values: Mapping[Any, Any]) -> SecondClient | None:
        """The lane of the second client, where one is chosen. Raises PatchLabError for a profile that does not hold."""
        name = values[self.inputs.versus]
        if not name:
            return None
        if name == values[self.inputs.profile]:
            raise InputError(batch_words.TWICE.format(name=name), expected="two different clients", do="choose another one")
        return SecondClient.of(SECOND_LANE.format(name=name),
                               client_stack(name, self.lab.base.fingerprints, self.lab.registry))

    def look(self, values: Mapping[Any, Any]) -> Updates:
        """How the batch of this browser is; where nothing has changed its results stay as they are."""
        o = self.outputs
        return self.view(o.key.of(values), values[o.shown], values[o.page], values[o.filter])

    def first_page(self, values: Mapping[Any, Any]) -> Updates:
        """The first page of another filter."""
        return self.view(self.outputs.key.of(values), "", 0, values[self.outputs.filter])

    def turning(self, by: int) -> Callable[[Mapping[Any, Any]], Updates]:
        """The handler that turns the table's page."""
        def turn(values: Mapping[Any, Any]) -> Updates:
            o = self.outputs
            return self.view(o.key.of(values), "", int(values[o.page]) + by, values[o.filter])

        return turn

    def removed(self, key: str) -> None:
        """Remove a batch with the files that were made of it. Raises NotFoundError."""
        BATCHES.remove(key)
        rows_of.cache_clear()
        shutil.rmtree(exports(key), ignore_errors=True)

    def view(self, key: str, shown: str, page: int, name: str) -> Updates:
        """The updates that show a batch; `shown` is what its results were last drawn from."""
        o = self.outputs
        try:
            state = BATCHES.state(key)
        except NotFoundError:  # none yet, or one that is gone
            if not key:  # the line says already that there is none, or why none could be started
                return {o.shown: gr.skip()}
            return {**o.key.updates("", active=False), o.shown: "", o.results: gr.update(visible=False),
                    o.line: status(batch_words.REMOVED if shown else batch_words.READY), **self._buttons(None)}
        active = state.status in ACTIVE
        updates: Updates = {**o.key.updates(key, active=active), **self._buttons(state)}
        bar = f'<progress max="{state.total}" value="{state.done}" aria-label="{batch_words.BAR}"></progress>' if active else ""
        updates[o.line] = status(said(state), problem=state.status == "failed") + bar
        now = f"{key} {state.status} {state.done if not active else 0}"
        if now != shown:
            updates |= {o.shown: now, **self._results(state, page, name)}
        return updates

    def _buttons(self, state: BatchState | None) -> Updates:
        o, active = self.outputs, bool(state and state.status in ACTIVE)
        return {o.run: gr.update(interactive=not active), o.stop: gr.update(visible=active),
                o.remove: gr.update(visible=bool(state)),
                o.resume: gr.update(visible=bool(state and state.status in ("stopped", "failed")))}

    def _results(self, state: BatchState, page: int, name: str) -> Updates:
        """Rates and table of a batch that is over for now; of one that runs there are none yet."""
        o = self.outputs
        rows = () if state.status in ACTIVE else judged_rows(self.lab, state)
        if not rows:
            return {o.results: gr.update(visible=False), o.page: 0}
        shown, counted = batch_table.filtered(rows, name), batch_table.counts(rows)
        page = batch_table.page_of(shown, page)[0]
        last = (len(shown) - 1) // batch_table.PER_PAGE
        return {o.results: gr.update(visible=True), o.page: page, o.rates: batch_table.rates_table(rows),
                o.table: batch_table.table(shown, page, state.key[:8]), o.previous: gr.update(interactive=page > 0),
                o.next: gr.update(interactive=page < last), o.file: gr.update(value=None, visible=False),
                o.filter: gr.update(choices=[(f"{words} ({counted[each]})", each)
                                             for each, words in batch_words.FILTERS.items()])}

    def vote(self, values: Mapping[Any, Any], event: gr.EventData) -> Updates:
        """Keep a vote and count it; table and focus stay as they are. One that cannot be kept is one line."""
        o, sent = self.outputs, event._data if isinstance(event._data, Mapping) else {}
        name, choice = (str(sent.get(each, "")) for each in ("ballot", "choice"))
        try:
            state = BATCHES.state(o.key.of(values))
            rows = rows_of(self.lab, state.key, state.done) if state.status not in ACTIVE else ()
            row = next((row for row in rows if batch_table.ballot(row.prompt) == name), None)
            if row is None or choice not in (batch_table.NEITHER, *(each.reply.lane for each in row.candidates)):
                raise InputError(batch_words.NOT_A_VOTE, expected="one of a prompt in the table", do="load the page again")
            BATCHES.vote(state.key, name, choice)
        except PatchLabError as error:
            return {o.line: status(copy.sentence(str(error)), problem=True)}
        now = voted(rows, BATCHES.votes(state.key))
        return {o.rates: batch_table.rates_table(now), o.file: gr.update(value=None, visible=False)}

    def export(self, values: Mapping[Any, Any]) -> Updates:
        """The file of a format; the table's filter holds for it, the report is of all prompts."""
        o, name = self.outputs, values[self.outputs.format]
        try:
            state = BATCHES.state(o.key.of(values))
            path = exported(self.lab, state, name, values[o.filter])
        except PatchLabError as error:
            return {o.line: status(copy.sentence(str(error)), problem=True)}
        return {o.file: gr.update(value=str(path), visible=True)}

    def sources(self, source: str) -> list[Any]:
        """Show the fields of a source of prompts only."""
        return [gr.update(visible=source == "paste"), gr.update(visible=source == "upload"), gr.update(visible=source == "suite"),
                gr.update(visible=source == "suite"), gr.update(visible=source != "suite")]


def said(state: BatchState) -> str:
    """How a batch is, as sentences."""
    if state.status == "waiting":
        return batch_words.WAITING.format(place=state.place, batches="batch" if state.place == 1 else "batches")
    words = {"running": batch_words.RUNNING, "judging": batch_words.JUDGING, "done": batch_words.DONE,
             "stopped": batch_words.STOPPED, "failed": batch_words.FAILED}[state.status]
    told = words.format(done=state.done, total=state.total, left=batch_words.time_left(state.seconds_left),
                        prompts=state.total // len(state.settings.lanes), source=state.settings.source)
    return " ".join([*([copy.sentence(state.error)] if state.error else []), told, *map(copy.sentence, state.settings.notes)])
