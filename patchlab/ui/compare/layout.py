"""Where the parts of the Compare tab stand: the question, the verdict, the columns, the charts, and the stack beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from patchlab.scoring.table import claim_of, coarse_note
from patchlab.ui import charts, copy
from patchlab.ui.compare import browser, history, more_columns, patch_panel, reply_columns, verdict_sentence, why_panel
from patchlab.ui.compare.more_columns import MoreColumns
from patchlab.ui.compare.patch_panel import PatchPanel
from patchlab.ui.compare.sample_bars import MOST_SAMPLES
from patchlab.ui.compare.why_panel import WhyParts
from patchlab.ui.diff import escaped
from patchlab.ui.live_chart import live_chart
from patchlab.ui.share import share_words
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

Examples = tuple[tuple[gr.Button, str], ...]  # a button, and the prompts it chooses from as JSON
Asking = tuple[gr.Textbox, gr.Radio, gr.Radio, gr.Button, gr.Button, gr.Button, Examples]


class Keeping(NamedTuple):
    """What a visitor does with runs that ended: shows one again, takes one along, clears the list. `file` is a text to save."""

    again: gr.Button
    clear: gr.Button
    json: gr.Button
    csv: gr.Button
    record: gr.Textbox
    file: gr.Textbox


@dataclass(frozen=True, slots=True)
class Controls:
    """What a visitor sets."""

    prompt: gr.Textbox
    kind: gr.Radio
    talk: gr.Radio
    run: gr.Button
    stop: gr.Button
    again: gr.Button
    examples: Examples
    temperature: gr.Slider
    length: gr.Slider
    seed: gr.Textbox
    samples: gr.Slider
    system: gr.Textbox
    panel: PatchPanel
    keeping: Keeping
    added: gr.State  # the further columns

    @property
    def asking(self) -> list[Any]:
        """What a run is about besides stack and seed: another value of these makes the replies those of earlier settings."""
        return [self.prompt, self.kind, self.temperature, self.length, self.samples, self.system]

    @property
    def inputs(self) -> set[Any]:
        """Every component a request is read from."""
        return {*self.asking, self.seed, self.talk, self.added} | self.panel.inputs


@dataclass(frozen=True, slots=True)
class Results:
    """What a run changes: one component a lane and a scorer, so that a fourth lane is one more entry."""

    status: gr.HTML
    warning: gr.HTML
    verdict: gr.HTML
    crisis: gr.HTML
    lanes: tuple[gr.HTML, ...]
    charts: Mapping[str, gr.HTML]
    ran: gr.State
    talk: gr.Radio
    rows: gr.State
    table: gr.HTML
    kept: gr.Textbox  # the run for the browser to keep
    more: MoreColumns
    why: WhyParts

    @property
    def outputs(self) -> list[Any]:
        """Every component a run of the first lanes writes."""
        return [self.status, self.warning, self.verdict, self.crisis, *self.lanes, *self.charts.values(), self.ran, self.talk,
                self.rows, self.table, self.kept]

    @property
    def all(self) -> list[Any]:
        """Every component that a run or another set of columns writes."""
        return [*self.outputs, *self.more.outputs]

    @property
    def inputs(self) -> set[Any]:
        """What of earlier runs, and of the columns, a run reads."""
        return {self.rows, self.ran, self.more.added}


def place(lab: Lab, scorers: Sequence[Scorer], about: str) -> tuple[Controls, Results]:
    """Place the tab's components in the open Blocks; `about` says of the models what stands there before a run."""
    with gr.Row(elem_classes=["screen"]):
        with gr.Column(elem_classes=["stage"], min_width=0):
            with gr.Column(elem_classes=["ask"], min_width=0):
                asked, line = _ask(lab)
            verdict = gr.HTML(verdict_sentence.idle(about), apply_default_css=False, elem_id="verdict")
            crisis = gr.HTML("", apply_default_css=False, elem_id="crisis")
            with gr.Row(elem_classes=["lanes"], elem_id="lanes"):
                lanes = tuple(gr.HTML(reply_columns.empty(name, index), apply_default_css=False, elem_id=f"lane-{name}")
                              for index, name in enumerate(lab.lane_names))
                further = more_columns.columns(lab)
            with gr.Row(elem_classes=["charts"]):
                drawn = {claim: _chart(claim, lab) for claim in map(claim_of, (scorer.name for scorer in scorers))}
            why = why_panel.place(lab)
        with gr.Column(elem_classes=["side"], min_width=0):
            panel = patch_panel.build(lab.planner, gates=lab.gates)
            choosing = more_columns.place(lab)
            with gr.Accordion(copy.MORE, open=False, elem_id="more"):
                settings = _settings()
    _measured(lab)
    rows, table, kept, keeping = _visit()
    controls = Controls(*asked, *settings, panel, keeping, gr.State(()))
    more = MoreColumns(controls.added, *choosing, further, {claim: head for claim, (head, _) in drawn.items()})
    plots = {claim: chart for claim, (_, chart) in drawn.items()}
    return controls, Results(line, panel.warning, verdict, crisis, lanes, plots, gr.State(None), controls.talk, rows, table, kept,
                             more, why)


def _ask(lab: Lab) -> tuple[Asking, gr.HTML]:
    """The prompt with its buttons, the way of asking with the status, and the examples."""
    with gr.Row(elem_classes=["ask-prompt"]):
        prompt = gr.Textbox(label=copy.PROMPT_LABEL, placeholder=copy.PROMPT_PLACEHOLDER, lines=1, max_lines=4,
                            elem_id="prompt", autofocus=True, interactive=True, container=False, min_width=0)
        run = gr.Button(copy.RUN, variant="primary", elem_id="run", min_width=84, scale=0)
        stop = gr.Button(copy.STOP, elem_id="stop", min_width=72, scale=0)
    with gr.Row(elem_classes=["ask-ways"]):
        kind = gr.Radio(copy.KINDS, value="chat", label=copy.KIND_LABEL, interactive=True, elem_id="kind", container=False,
                        scale=0, min_width=0)
        talk = gr.Radio(copy.TALKS, value="new", label=copy.TALK_LABEL, visible=False, interactive=True, elem_id="talk",
                        container=False, scale=0, min_width=0)
        again = gr.Button(copy.AGAIN, size="sm", elem_id="again", scale=0, min_width=0)
        line = gr.HTML(status(copy.READY), apply_default_css=False, elem_id="status", min_width=0)
    with gr.Row(elem_classes=["examples"]):
        gr.HTML(f"<h2>{copy.TRY}</h2>", apply_default_css=False, min_width=0)
        examples = tuple(_examples(copy.groups(lab.name)))
    return (prompt, kind, talk, run, stop, again, examples), line


def _examples(groups: Mapping[str, Sequence[copy.Example]]) -> list[tuple[gr.Button, str]]:
    """A button an example and one for any of them, each with its prompts as JSON."""
    every = [example for examples in groups.values() for example in examples]
    offered = [*((example.label, [example]) for example in every), (copy.SURPRISE, every)]
    return [(gr.Button(label, size="sm", min_width=0, scale=0, elem_classes=["example"]),
             json.dumps([[example.prompt.text, example.prompt.kind] for example in some])) for label, some in offered]


def _settings() -> tuple[gr.Slider, gr.Slider, gr.Textbox, gr.Slider, gr.Textbox]:
    system = gr.Textbox(lines=2, max_lines=4, label=copy.SYSTEM[0], info=copy.SYSTEM[1], interactive=True, elem_id="system")
    temperature = gr.Slider(0, 1.5, value=0.8, step=0.05, label=copy.TEMPERATURE[0], info=copy.TEMPERATURE[1], interactive=True)
    length = gr.Slider(8, 128, value=48, step=8, label=copy.LENGTH[0], info=copy.LENGTH[1], interactive=True, elem_id="length")
    samples = gr.Slider(1, MOST_SAMPLES, value=1, step=1, label=copy.SAMPLES[0], info=copy.SAMPLES[1], interactive=True,
                        elem_id="samples")
    # a field of text: a browser's numbers are exact up to 2^53 only, and what was typed is what an error repeats
    seeds = gr.Textbox("0", max_lines=1, label=copy.SEED[0], info=copy.SEED[1], interactive=True, elem_id="seed")
    return temperature, length, seeds, samples, system


def _chart(claim: str, lab: Lab) -> tuple[gr.HTML, gr.HTML]:
    """A chart's head and the chart."""
    with gr.Column(min_width=0, elem_classes=["chart"]):
        head = gr.HTML(reply_columns.chart_head(claim, lab.lane_names), apply_default_css=False)
        return head, live_chart(charts.figure(claim, lab.lane_names), elem_id=f"chart-{claim}")


def _measured(lab: Lab) -> None:
    """Below the first screen: how the charts are made, and the way to what was measured of the patches."""
    said = " ".join(filter(None, (copy.CHARTS_NOTE.format(held=charts.HELD, window=charts.WINDOW), coarse_note(lab.judges))))
    gr.HTML(f'<p class="note">{escaped(said)}</p>', apply_default_css=False)
    gr.Button(copy.TO_EVALUATE, size="sm", scale=0, min_width=260, elem_id="to-evaluate").click(
        None, None, None, js=browser.open_tab("Evaluate"), show_progress="hidden", api_visibility="private")


def _visit() -> tuple[gr.State, gr.HTML, gr.Textbox, Keeping]:
    """The list of the visitor's runs, what is kept of a run, and the buttons."""
    rows = gr.State([])
    with gr.Row(elem_classes=["history-title"]):
        note = share_words.KEPT_NOTE.format(most=history.KEPT)
        gr.HTML(f'<h2>{escaped(copy.HISTORY_TITLE)}</h2><p class="note">{escaped(note)}</p>', apply_default_css=False)
        as_json, as_csv, clear = (gr.Button(words, size="sm", scale=0, min_width=0, elem_id=name) for words, name in (
            (share_words.SAVE_JSON, "save-json"), (share_words.SAVE_CSV, "save-csv"), (copy.CLEAR, "clear")))
    table = gr.HTML(history.table([]), apply_default_css=False, elem_id="history")
    kept, record, file = gr.Textbox(visible="hidden"), gr.Textbox(visible=False), gr.Textbox(visible="hidden")
    again = gr.Button(share_words.RECALL, visible="hidden", elem_classes=["recall-run"])
    return rows, table, kept, Keeping(again, clear, as_json, as_csv, record, file)
