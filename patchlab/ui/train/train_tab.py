"""The Train tab: settings, a training in a thread that is looked after once a second, its chart, and the patch at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import InputError, NotFoundError, PatchLabError
from patchlab.models import PRESETS
from patchlab.patches.manifest import is_name
from patchlab.ui import copy
from patchlab.ui.batch.batch_words import time_left
from patchlab.ui.compare.tab import seed
from patchlab.ui.diff import coded
from patchlab.ui.kept_job import KeptKey, acting
from patchlab.ui.live_chart import live_chart
from patchlab.ui.status_line import status
from patchlab.ui.train import loss_chart, train_words
from patchlab.ui.train.training_store import WORK, Trainings, TrainingSettings, TrainingState

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
TRAININGS = Trainings()
STORAGE = "patchlab-training"  # under which the browser keeps the key of its training
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NAME_OF_DOMAIN = "(domain, name) => /^(my-[a-z]+)?$/.test(name) ? `my-${domain}` : name"
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class TrainControls:
    """What a visitor sets and sees."""

    domain: gr.Radio
    name: gr.Textbox
    steps: gr.Slider
    length: gr.Slider
    seed: gr.Textbox
    judged: gr.Slider
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    line: gr.HTML
    chart: gr.HTML
    pairs: gr.HTML
    key: KeptKey


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None, *, allowed: bool = False) -> TrainTab:
    """Place the tab's components in the open Blocks, connect them, and give back their handlers.

    Where training is not `allowed` there are words and commands only.
    """
    gr.HTML(f'<h2>{train_words.TITLE}</h2><p class="note">{train_words.NOTE}</p>' + ("" if allowed else explained(lab)),
            apply_default_css=False, elem_id="train-about")
    tab = TrainTab(lab, gr.State(()), _place() if allowed else None)
    tab.connect()
    return tab


def explained(lab: Lab) -> str:
    """Who can train, and the commands for the page's model."""
    models = f" --preset {lab.name}" if lab.name in PRESETS else " --base MODEL --reference SAFER_MODEL"
    lines = [each.format(domain="refusal", models=models) for each in train_words.COMMANDS]
    return f'<p class="note">{coded(train_words.NOT_ALLOWED)}</p>' + "".join(
        f'<code class="train-command">{line}</code>' for line in lines)


def _place() -> TrainControls:
    key = KeptKey.place(STORAGE)
    with gr.Row(elem_classes=["train-top"]):
        with gr.Column(scale=2, min_width=300):
            domain = gr.Radio(train_words.DOMAINS, value="refusal", label=train_words.DOMAIN_LABEL, elem_id="train-domain",
                              interactive=True)
            name = gr.Textbox("my-refusal", label=train_words.NAME[0], info=train_words.NAME[1], max_lines=1,
                              elem_id="train-name", interactive=True)
            steps = gr.Slider(10, 1000, value=200, step=10, label=train_words.STEPS[0], info=train_words.STEPS[1],
                              elem_id="train-steps", buttons=[], interactive=True)
            length = gr.Slider(1, 50, value=10, step=1, label=train_words.LENGTH[0], info=train_words.LENGTH[1],
                               elem_id="train-length", buttons=[], interactive=True)
            seeds = gr.Textbox("0", label=train_words.SEED[0], info=train_words.SEED[1], max_lines=1, elem_id="train-seed",
                               interactive=True)
            judged = gr.Slider(0, 200, value=50, step=10, label=train_words.JUDGED[0], info=train_words.JUDGED[1],
                               elem_id="train-judged", buttons=[], interactive=True)
        with gr.Column(scale=3, min_width=320):
            with gr.Row(elem_classes=["train-buttons"]):
                start = gr.Button(train_words.START, variant="primary", elem_id="train-start", min_width=170, scale=0)
                stop = gr.Button(train_words.STOP, visible=False, elem_id="train-stop", min_width=110, scale=0)
                resume = gr.Button(train_words.RESUME, visible=False, elem_id="train-resume", min_width=110, scale=0)
            line = gr.HTML(status(train_words.READY), apply_default_css=False, elem_id="train-status")
            with gr.Column(elem_classes=["evaluate-chart"]):
                gr.HTML(f'<h2>{train_words.CHART_TITLE} <small>{train_words.CHART_NOTE}</small></h2>{loss_chart.legend()}',
                        apply_default_css=False)
                chart = live_chart(loss_chart.figure([]), elem_id="chart-training")
            pairs = gr.HTML("", apply_default_css=False, elem_id="train-pairs")
    return TrainControls(domain, name, steps, length, seeds, judged, start, stop, resume, line, chart, pairs, key)


class TrainTab:
    """The tab's handlers: plain methods from component values to component values."""

    def __init__(self, lab: Lab, installed: gr.State, controls: TrainControls | None) -> None:
        self.lab, self.installed, self.controls = lab, installed, controls

    def connect(self) -> None:
        """Let the components call the handlers."""
        if (c := self.controls) is None:
            return
        outputs = [c.line, c.chart, c.pairs, *c.key.all, c.start, c.stop, c.resume, self.installed]
        looked: set[Any] = {c.key.kept, c.key.started, self.installed}
        c.key.follow(self.look, looked, outputs, **QUIET)
        c.start.click(self.start, {c.domain, c.name, c.steps, c.length, c.seed, c.judged, *looked}, outputs, **QUIET)
        for button, act in ((c.stop, TRAININGS.stop), (c.resume, partial(TRAININGS.resume, self.lab))):
            button.click(acting(act, c.key, c.line, self.look), looked, outputs, **QUIET)
        # in the browser: an answer of the server could come after the visitor's own name, and undo it
        c.domain.input(None, [c.domain, c.name], c.name, js=NAME_OF_DOMAIN, **QUIET)

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page or chose another preset: their training goes on."""

    def start(self, values: Mapping[Any, Any]) -> Updates:
        """Start what the components' values describe; an error is one line and starts nothing."""
        assert self.controls
        try:
            key = TRAININGS.start(self.lab, self.settings(values))
        except PatchLabError as error:
            return {self.controls.line: status(copy.sentence(str(error)), problem=True)}
        return self.view(key, values[self.installed])

    def settings(self, values: Mapping[Any, Any]) -> TrainingSettings:
        """The settings that the components' values describe. Raises InputError."""
        c = self.controls
        assert c
        name = str(values[c.name] or "").strip()
        if not is_name(name):
            raise InputError(f"the name {name[:80]!r}", expected="lower-case letters, digits and hyphens, as in my-refusal",
                             do="choose another")
        return TrainingSettings(
            preset=self.lab.name, domain=str(values[c.domain]), name=name, version=next_version(self.lab, name),
            steps=int(values[c.steps]), length=int(values[c.length]), seed=seed(values[c.seed]), judged=int(values[c.judged]))

    def look(self, values: Mapping[Any, Any]) -> Updates:
        """How the training of this browser is."""
        assert self.controls
        return self.view(self.controls.key.of(values), values[self.installed])

    def view(self, key: str, installed: Sequence[str]) -> Updates:
        """The updates that show a training."""
        c = self.controls
        assert c
        try:
            state = TRAININGS.state(key)
        except NotFoundError:  # none yet, or one that is gone
            return c.key.updates("", active=False) | {c.line: status(train_words.READY)} if key else {c.line: gr.skip()}
        running, work = state.status == "running", TRAININGS.folder(key) / WORK
        updates: Updates = {
            **c.key.updates(key, active=running),
            c.line: status(said(state), problem=state.status == "failed") + bar(state),
            c.chart: loss_chart.figure(loss_chart.logged(work)), c.pairs: loss_chart.pairs(work),
            c.start: gr.update(interactive=not running), c.stop: gr.update(visible=running),
            c.resume: gr.update(visible=state.status in ("stopped", "failed"))}
        if state.status == "done" and state.settings.name not in installed:
            updates[self.installed] = (*installed, state.settings.name)
        return updates


def said(state: TrainingState) -> str:
    """How a training is, as sentences."""
    progress = state.progress
    if state.status == "running":
        return train_words.STARTING if progress is None else train_words.RUNNING.format(
            stage=progress.stage, done=progress.done, total=progress.total, left=time_left(state.seconds_left),
            message=progress.message)
    words = {"stopped": train_words.STOPPED, "failed": train_words.FAILED, "done": train_words.DONE.format(
        name=state.settings.name, version=state.settings.version)}[state.status]
    return f"{copy.sentence(state.error)} {words}" if state.error else words


def bar(state: TrainingState) -> str:
    """The progress of the stage that runs as a bar."""
    if state.status != "running" or state.progress is None:
        return ""
    return f'<progress max="{state.progress.total}" value="{state.progress.done}" aria-label="{train_words.BAR}"></progress>'


def next_version(lab: Lab, name: str) -> str:
    """1.0.0, or of a name that is installed the next minor version after the highest one."""
    numbers = [tuple(map(int, each.manifest.version.split("-")[0].split("+")[0].split(".")))
               for each in lab.registry.list() if each.manifest.name == name]
    return f"{max(numbers)[0]}.{max(numbers)[1] + 1}.0" if numbers else "1.0.0"
