"""The Compare tab's handlers: a run of all lanes, the patched lane written anew after a change of the stack, and Stop."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.engine import Sampling
from patchlab.errors import InputError, PatchLabError
from patchlab.records import Prompt
from patchlab.ui import between_tabs, charts, copy, session
from patchlab.ui.compare import browser, more_columns, patch_panel, reply_columns, verdict_sentence, why_panel
from patchlab.ui.compare.column_changes import ColumnChanges
from patchlab.ui.compare.keeping import KeptRuns, Shows, offered
from patchlab.ui.compare.kept_runs import Ran
from patchlab.ui.compare.layout import Controls, Results, place
from patchlab.ui.compare.linked_stack import LinkedStack
from patchlab.ui.compare.patch_panel import TYPED
from patchlab.ui.session import RunRequest, View
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
TOP_P = 0.9  # small models slip on unlikely words, and a slip would pass for a patch's doing
SETTLE = 0.1  # seconds without another change before the patched lane is written anew: a drag of a slider is many changes


Handler = Callable[[Mapping[Any, Any], gr.Request], Iterator[dict[Any, Any]]]


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None) -> Compare:
    """Place the tab's components in the open Blocks, connect them, and give back their handlers.

    `signals` are those of the visitors' runs, where several tabs share them.
    """
    controls, results = place(lab, scorers, copy.models_note(lab))
    tab = Compare(lab, scorers, controls, results, {} if signals is None else signals)
    running: dict[str, Any] = {"fn": never_empty(tab.run, results.status), "outputs": results.all, "trigger_mode": "multiple",
                               "inputs": controls.inputs | results.inputs, **QUIET}
    gr.on([controls.run.click, controls.prompt.submit], js=browser.ASKING, **running)
    controls.stop.click(tab.stop, None, results.status, js=browser.STOPPING, queue=False, **QUIET)
    controls.again.click(None, None, controls.seed, js=browser.ANOTHER_SEED, **QUIET).then(
        js=browser.ASKING, **running | {"fn": never_empty(tab.anew, results.status)})
    for button, prompts in controls.examples:
        # chosen in the browser: nothing to wait for before the run
        button.click(None, None, [controls.prompt, controls.kind, controls.talk], js=browser.choose(prompts), **QUIET).then(
            js=browser.ASKING, **running)
    gr.on([*controls.panel.choices, controls.seed.submit, controls.seed.blur], never_empty(tab.rerun, results.status),
          controls.panel.inputs | results.inputs | {controls.seed}, results.all, js=TYPED, trigger_mode="multiple",
          **QUIET)
    asking = [*controls.asking, controls.talk]
    gr.on([results.verdict.change, *(each.change for each in asking)], None, asking, None,
          js=browser.OUTDATED, trigger_mode="multiple", **QUIET)
    controls.talk.input(None, controls.talk, None, js=browser.TYPE_NEXT, **QUIET)
    # an example's way of asking goes when its words do; one that the visitor chose stays
    controls.prompt.change(None, [controls.prompt, controls.kind], controls.kind, js=browser.TYPE_OVER, trigger_mode="multiple",
                           **QUIET)
    why_panel.connect(lab, results.why, results.ran, results.verdict, tab.going)
    controls.kind.input(None, None, None, js=browser.KEEP_KIND, trigger_mode="multiple", **QUIET)
    return tab


def never_empty(handler: Handler, output: gr.HTML) -> Handler:
    """The handler with an update that changes nothing in front: gradio empties every output of one that ends without any."""
    def handled(values: Mapping[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield {output: gr.skip()}
        yield from handler(values, request)

    return handled


class Compare:
    """The tab's handlers: plain methods from component values to component values."""

    def __init__(self, lab: Lab, scorers: Sequence[Scorer], controls: Controls, results: Results,
                 signals: dict[str, Event]) -> None:
        self.lab, self.scorers, self.controls, self.results = lab, scorers, controls, results
        self.signals = signals  # of each visitor whose run is going, by gradio's session name: set it to end the run
        self.going: dict[str, RunRequest] = {}  # what each of these runs was asked
        shows = Shows(self.shown, self.stop, partial(results.more.updates, lab))
        self.kept = KeptRuns(lab, controls, results, self.linked, shows)
        self.column_changes = ColumnChanges(lab, controls.panel, results, self.shown, self.going)
        self.changes: dict[str, object] = {}  # each visitor's newest change of the stack

    @property
    def linked(self) -> dict[str, Any]:
        """What of the tab a link holds, by the names of `LinkSettings`."""
        c = self.controls
        return {"prompt": c.prompt, "kind": c.kind, "temperature": c.temperature, "length": c.length, "seed": c.seed,
                "samples": c.samples, "system": c.system, "patches": LinkedStack(c.panel),
                "mode": c.panel.mode, "strength": c.panel.shared, "gates": c.panel.gates}

    def placed(self, trigger: Any) -> None:
        """At the event after the tab's placing show what the browser kept."""
        self.kept.listed(trigger)

    def run(self, values: Mapping[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Stream a run of all lanes to the page; an error becomes one line in the status and leaves the rest as it was.

        A run of the same visitor that is still going ends without another word.
        """
        self.changes.pop(str(request.session_hash), None)
        try:
            asked = self.request(values)
        except PatchLabError as error:
            self.stop(request)
            yield self.problem(copy.sentence(str(error)), values, keep=self.goes_on(values))
            return
        yield from self.written(asked, values, request)

    def anew(self, values: Mapping[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """With another seed: of a conversation that goes on the newest turn, else what is asked now."""
        yield from (self.rerun if self.goes_on(values) else self.run)(values, request)

    def goes_on(self, values: Mapping[Any, Any]) -> bool:
        """Whether the visitor asks in the conversation of the last run."""
        return bool(values[self.controls.talk] == "same" and values[self.results.ran])

    def rerun(self, values: Mapping[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """After a change of the stack or the seed: the same prompt and settings again, with what a stack changes and no more.

        Another stack changes the patched lane only, another seed all of them. Before a first run there is nothing to do.
        """
        visitor, last = str(request.session_hash), values[self.results.ran]
        self.changes[visitor] = change = object()
        going = self.going.get(visitor)  # it may end during the wait, and `last` is the one before it
        time.sleep(SETTLE)
        before = self.going.get(visitor) or going or (last and last.request)
        if self.changes.get(visitor) is not change or before is None:
            return
        try:
            asked = self.again(before, values)
        except PatchLabError as error:
            yield self.problem(copy.sentence(str(error)), values, keep=True)
            return
        if asked == before:
            return
        kept = last is not None and last.view.whole and replace(asked, stack=last.request.stack) == last.request
        if kept:
            at = self.lab.lane_names.index("patched")
            yield {self.results.lanes[at]: reply_columns.column(last.view, at, stale=True),
                   self.results.status: status(copy.WRITING)}
        yield from self.written(asked, values, request, last.view if kept else None)

    def written(self, asked: RunRequest, values: Mapping[Any, Any], request: gr.Request,
                earlier: View | None = None) -> Iterator[dict[Any, Any]]:
        """The page's updates while the lanes write, all of them or the patched one beside those of an earlier view."""
        visitor, signal = str(request.session_hash), Event()
        self.stop(request)
        self.signals[visitor], self.going[visitor] = signal, asked
        # an earlier run's replies must not stand beside a prompt that gave none, unless it would go on from them
        shown = earlier is not None or bool(asked.turns)
        try:
            with closing(session.run(self.lab, self.scorers, asked, stop=signal.is_set, earlier=earlier)) as views:
                for view in views:
                    if self.signals.get(visitor) is not signal:
                        return
                    shown = True
                    yield self.shown(view, asked) | (self.recorded(view, asked, values) if not view.running else {})
        except PatchLabError as error:
            yield self.problem(copy.sentence(str(error)), values, keep=shown)
        except Exception:  # the page outlives any single run
            log.exception("a run failed")
            yield self.problem(copy.UNEXPECTED, values, keep=shown)
        finally:
            if self.signals.get(visitor) is signal:
                del self.signals[visitor]
                self.going.pop(visitor, None)

    def stop(self, request: gr.Request) -> str | dict[str, Any]:
        """Ask the visitor's run to end; it then writes its own last view. Where none is going the status says so."""
        signal = self.signals.get(str(request.session_hash))
        if signal is None:
            return status(copy.NOTHING_TO_STOP)
        signal.set()
        return gr.skip()

    def join(self, tabs: Sequence[object], opening: Sequence[Any]) -> None:
        """Give every patch that is installed later its switches in the panel."""
        states = between_tabs.installing(tabs)
        patch_panel.follow(self.controls.panel, [*opening, *(state.change for state in states)], states)

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page: end their run, also one that waits in the scheduler's line."""
        self.changes.pop(str(request.session_hash), None)
        self.stop(request)

    def problem(self, words: str, values: Mapping[Any, Any], *, keep: bool) -> dict[Any, Any]:
        """The status line with an error; without `keep` columns and charts are as before any run."""
        r, names, others = self.results, self.lab.lane_names, values[self.results.more.added]
        updates: dict[Any, Any] = {} if keep else {
            r.crisis: "", r.ran: None, r.verdict: verdict_sentence.idle(copy.models_note(self.lab)),
            r.talk: offered(None),
            **{lane: reply_columns.empty(name, index) for index, (name, lane) in enumerate(zip(names, r.lanes, strict=True))},
            **r.more.updates(self.lab, others),
            **{chart: charts.figure(scorer, [*names, *(each.lane for each in others)]) for scorer, chart in r.charts.items()}}
        return updates | {r.status: status(words, problem=True)}

    def request(self, values: Mapping[Any, Any]) -> RunRequest:
        """The request that the components' values describe."""
        c = self.controls
        text, kind = values[c.prompt] or "", values[c.kind]
        turns = session.continued(values[self.results.ran].view, kind) if self.goes_on(values) else ()
        system = (values[c.system] or "").strip() if kind == "chat" else ""
        others = tuple(values[self.results.more.added])
        if turns:
            more_columns.require_known(others, values[self.results.ran].request.others)
        prompt = Prompt(text, kind, copy.domain_of(text), system=system)
        sampling = Sampling(temperature=float(values[c.temperature]), max_new_tokens=int(values[c.length]),
                            seed=seed(values[c.seed]), top_p=TOP_P)
        return RunRequest(prompt, c.panel.stack(values), sampling, int(values[c.samples]), turns, others)

    def again(self, before: RunRequest, values: Mapping[Any, Any]) -> RunRequest:
        """An earlier request with the stack and the seed that are set now."""
        c, still = self.controls, values[self.results.more.added]
        return replace(before, others=tuple(each for each in before.others if each in still), stack=c.panel.stack(values),
                       sampling=replace(before.sampling, seed=seed(values[c.seed])))

    def shown(self, view: View, asked: RunRequest) -> dict[Any, Any]:
        """The verdict, columns, charts and status of a view."""
        r, panel, names = self.results, self.controls.panel, [lane.name for lane in view.lanes]
        words = ended(view)
        updates: dict[Any, Any] = {
            r.status: status(words, problem=words == copy.FAILED), r.warning: panel.told(view.warnings),
            r.verdict: verdict_sentence.banner(view, panel.known, settings(asked)), r.crisis: reply_columns.crisis(view)}
        for index, lane in enumerate(r.lanes):
            updates[lane] = reply_columns.column(view, index)
        for index, lane in enumerate(r.more.columns[:len(names) - len(r.lanes)], len(r.lanes)):
            updates[lane] = gr.update(value=reply_columns.column(view, index), visible=True)
        for scorer, chart in r.charts.items():
            updates[chart] = charts.figure(scorer, names, view)
        return updates

    def recorded(self, view: View, asked: RunRequest, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """The list of runs with this one added, and the run to go on from."""
        return self.kept.ended(Ran(asked, view), values)


def settings(asked: RunRequest) -> str:
    """What a run was about besides stack and seed, as JSON that the browser compares with what is set now."""
    prompt, sampling = asked.prompt, asked.sampling
    return json.dumps([prompt.text, prompt.kind, sampling.temperature, sampling.max_new_tokens, asked.samples, prompt.system])


def seed(typed: str) -> int:
    """The seed that a visitor typed, 0 where nothing is. Raises InputError for what is no whole number."""
    try:
        return int(typed.strip() or "0")
    except ValueError:
        raise InputError(f"the seed {typed[:40]!r}", expected="a whole number", do="type another or leave it empty") from None


def ended(view: View) -> str:
    """Whether a view is still being written, was stopped, or is done, in words."""
    if view.running:
        return copy.WRITING
    stops = {reply.stop for lane in view.lanes for reply in lane.replies}
    return copy.FAILED if "error" in stops else copy.STOPPED if "cancelled" in stops else copy.DONE
