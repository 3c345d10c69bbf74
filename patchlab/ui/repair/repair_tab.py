"""The Repair tab's handlers: find the words of a failure, edit them, repair against them, save the patch."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import InputError, PatchLabError
from patchlab.records import Progress
from patchlab.repair.planted import PLANTED, planted_failure
from patchlab.ui import copy
from patchlab.ui.repair import case_views, repair_words
from patchlab.ui.repair.repair_layout import RepairParts, place
from patchlab.ui.repair.repair_session import Case, Repaired, RepairSession
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
UNLIKELY = 3.0  # nats a token from which a reply is reported as one that the model hardly gives
Updates = dict[Any, Any]


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None, *, allowed: bool = False) -> RepairTab:
    """Place the tab's components in the open Blocks, connect them, and give back their handlers.

    Only where training is `allowed` does a repair run.
    """
    parts = place(planted=lab.name == "pocket" and PLANTED.is_dir(), allowed=allowed)
    tab = RepairTab(lab, parts, allowed=allowed)
    p = parts
    line: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "repair", **QUIET}  # one model in work at a time
    p.example.click(tab.example, None, [p.model, p.prompt, p.reply], queue=False, **QUIET)
    p.locate.click(tab.locate, p.failure, [p.line, p.found, p.cut, p.injected, p.case], **line)
    p.cut.change(tab.preview, {p.cut, p.case}, p.injected, trigger_mode="always_last", **QUIET)
    if allowed:
        p.repair.click(tab.repair, p.settings, [p.repair_line, p.progress, p.results, p.done, p.save], **line)
        p.stop.click(tab.stop, None, p.repair_line, queue=False, **QUIET)
        p.save.click(tab.save, {p.done, p.installed}, [p.repair_line, p.installed], **QUIET)
    return tab


class RepairTab:
    """The tab's handlers: plain methods from component values to component values."""

    def __init__(self, lab: Lab, parts: RepairParts, *, allowed: bool) -> None:
        self.parts, self.allowed, self.session = parts, allowed, RepairSession(lab)
        self.installed = parts.installed  # names of the patches that this visitor saved
        self.signals: dict[str, Event] = {}  # of each visitor whose repair is going: set it to end it

    def example(self) -> list[Any]:
        """The model with the planted trigger, and a failure of it."""
        return ["planted", *planted_failure()]

    def locate(self, values: Mapping[Any, Any]) -> Iterator[Updates]:
        """Find the words of the failure; an error is one line."""
        p = self.parts
        yield {p.line: status(repair_words.READING), p.found: "", p.injected: "", p.case: None,
               p.cut: gr.update(choices=[], value=[], visible=False)}
        try:
            steps = self.session.located(values[p.model], values[p.prompt] or "", values[p.reply] or "")
            case = yield from _told(steps, lambda step: {p.line: status(
                repair_words.STEP_LOCATE.format(message=step.message))} if step.stage == "locate" else {})
        except PatchLabError as error:
            yield {p.line: status(copy.sentence(str(error)), problem=True)}
            return
        except Exception:  # the page outlives any single run
            log.exception("words could not be located")
            yield {p.line: status(repair_words.UNEXPECTED, problem=True)}
            return
        found = case.found
        cut = list(found.words) if found.found else []
        yield {p.line: status(copy.DONE), p.case: case,
               p.found: case_views.heat_strip(case.words, found.scores, found.words) + case_views.finding(
                   found, case.tested, UNLIKELY),
               p.cut: gr.update(choices=[(word, k) for k, word in enumerate(case.words)], value=cut, visible=True),
               p.injected: case_views.injected_list(*self.session.preview(case, cut))}

    def preview(self, values: Mapping[Any, Any]) -> str:
        """Requests with the ticked words in them."""
        case: Case | None = values[self.parts.case]
        return case_views.injected_list(*self.session.preview(case, _cut(values[self.parts.cut]))) if case else ""

    def repair(self, values: Mapping[Any, Any], request: gr.Request) -> Iterator[Updates]:
        """Repair against the ticked words with progress; stopped or failed, what is done stays for the next press."""
        p, visitor, signal = self.parts, str(request.session_hash), Event()
        self.stop(request)
        self.signals[visitor] = signal
        yield {p.repair_line: status(repair_words.STAGES["measure before"] + "…"), p.progress: "", p.results: "", p.done: None,
               p.save: gr.update(interactive=False)}
        try:
            with closing(self.asked(values)) as steps:
                done = yield from _told(steps, self.going, signal)
            yield self.ended(done)
        except PatchLabError as error:
            yield {p.repair_line: status(copy.sentence(str(error)), problem=True), p.progress: ""}
        except Exception:
            log.exception("a repair failed")
            yield {p.repair_line: status(repair_words.UNEXPECTED, problem=True), p.progress: ""}
        finally:
            if self.signals.get(visitor) is signal:
                del self.signals[visitor]

    def asked(self, values: Mapping[Any, Any]) -> Generator[Progress, None, Repaired]:
        """The repair that the components' values describe. Raises InputError before its first step."""
        p = self.parts
        case: Case | None = values[p.case]
        if not self.allowed:  # no button leads here, but a request can
            raise InputError("training on a server that does not allow it", expected=repair_words.COMMAND, do="ask its operator")
        if case is None:
            raise InputError("no failure", expected="one whose words are known", do=repair_words.FIRST_LOCATE)
        if values[p.change] not in ("prefix", "weights"):
            raise InputError("another kind of change", expected="a patch or a change of the weights", do="choose one of them")
        return self.session.repaired(case, _cut(values[p.cut]), values[p.change], min(30, max(1, int(values[p.epochs]))))

    def going(self, step: Progress) -> Updates:
        """The line and the bar of a step."""
        p, words = self.parts, repair_words.STAGES.get(step.stage, step.stage.capitalize())
        return {p.repair_line: status(f"{words}: {step.done} of {step.total}"),
                p.progress: case_views.progress_bar(step.done, step.total, words, step.numbers or {})}

    def ended(self, done: Repaired | None) -> Updates:
        """What a repair changed; of one that was stopped, that it can go on."""
        p = self.parts
        if done is None:
            return {p.repair_line: status(repair_words.STOPPED), p.progress: ""}
        taken = f"{done.seconds:.0f} seconds" if done.seconds < 100 else f"{done.seconds / 60:.0f} minutes"
        return {p.repair_line: status(repair_words.REPAIRED.format(seconds=taken)), p.progress: "", p.done: done,
                p.save: gr.update(interactive=bool(done.folder)),
                p.results: case_views.measures_table(done.before, done.after) + case_views.replies_table(
                    done.replies, done.units)}

    def stop(self, request: gr.Request) -> str:
        """Ask the visitor's repair to end after its step."""
        signal = self.signals.get(str(request.session_hash))
        if signal is None:
            return status(repair_words.NOTHING_RUNS)
        signal.set()
        return status(repair_words.STOPPING)

    def save(self, values: Mapping[Any, Any]) -> Updates:
        """Install the patch of the repair that is done."""
        p = self.parts
        done: Repaired | None = values[p.done]
        try:
            name = self.session.saved(done)
        except PatchLabError as error:
            return {p.repair_line: status(copy.sentence(str(error)), problem=True)}
        own = done is not None and done.model == "own"
        words = (repair_words.SAVED if own else repair_words.SAVED_OTHER).format(name=name)
        return {p.repair_line: status(words), p.installed: (*values[p.installed], name) if own else values[p.installed]}

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page or chose another preset: end their repair; what is done stays on the server."""
        self.stop(request)


def _told(steps: Generator[Progress, None, Any], shown: Any, signal: Event | None = None) -> Generator[Updates, None, Any]:
    """Yield the updates of each step and return what the steps return; None where `signal` ended them."""
    while True:
        if signal is not None and signal.is_set():
            steps.close()
            return None
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if updates := shown(step):
            yield updates


def _cut(values: Sequence[Any] | None) -> list[int]:
    """The numbers of the ticked words."""
    return sorted({int(each) for each in values or ()})
