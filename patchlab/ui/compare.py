"""The Compare tab: one prompt, one column a lane, two live charts, and the list of this visit's runs."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.engine import Sampling
from patchlab.errors import InputError, PatchLabError
from patchlab.records import Prompt
from patchlab.registry.interaction_files import find_interactions
from patchlab.scoring.table import claim_of, coarse_note
from patchlab.ui import charts, copy, curve_panel, history, matrix_panel, patch_panel, reply_columns, session
from patchlab.ui.diff import escaped
from patchlab.ui.live_chart import live_chart
from patchlab.ui.patch_panel import PatchPanel

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# said by the browser itself: at once, and never after what the run says of its end
SAY = """const line = document.querySelector('#status p');
  if (line) { line.textContent = WORDS; line.className = 'status'; }"""
SAY_STOPPING = f"() => {{ {SAY.replace('WORDS', json.dumps(copy.STOPPING))} return []; }}"
SAY_ASKING = f"""(...values) => {{
  {SAY.replace('WORDS', json.dumps(copy.ASKING))}
  const asked = document.querySelector('#prompt textarea')?.value.trim();
  // on a phone the columns are several screens further down
  if (asked && window.innerWidth < 700) document.querySelector('#lanes')?.scrollIntoView({{behavior: 'smooth'}});
  return values;
}}"""
CHOOSE = """() => { const example = CHOSEN; document.querySelector('#kind').dataset.example = JSON.stringify(example);
  return example; }"""
TYPE_OVER = """(text, kind) => {
  const field = document.querySelector('#kind');
  if (!field.dataset.example) { return kind; }
  const [words, way] = JSON.parse(field.dataset.example);
  if (text.startsWith(words.slice(0, 6))) { return way; }
  delete field.dataset.example;
  return 'chat';
}"""
_shown = itertools.count()

TOP_P = 0.9  # small models slip on unlikely words, and a slip would pass for a patch's doing


@dataclass(frozen=True, slots=True)
class Controls:
    """What a visitor sets."""

    prompt: gr.Textbox
    kind: gr.Radio
    run: gr.Button
    stop: gr.Button
    temperature: gr.Slider
    length: gr.Slider
    seed: gr.Textbox
    samples: gr.Slider
    panel: PatchPanel

    @property
    def inputs(self) -> set[Any]:
        """Every component a request is read from."""
        return {self.prompt, self.kind, self.temperature, self.length, self.seed, self.samples} | self.panel.inputs


@dataclass(frozen=True, slots=True)
class Results:
    """What a run changes: one component a lane and a scorer, so that a fourth lane is one more entry."""

    status: gr.HTML
    warning: gr.HTML
    crisis: gr.HTML
    lanes: tuple[gr.HTML, ...]
    charts: Mapping[str, gr.HTML]
    rows: gr.State
    table: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """Every component a run writes."""
        return [self.status, self.warning, self.crisis, *self.lanes, *self.charts.values(), self.rows, self.table]


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None) -> Compare:
    """Place the tab's components in the open Blocks, connect them, and give back their handlers.

    `signals` are those of the visitors' runs, where several tabs share them.
    """
    controls, line = _controls(lab)
    results = _results(lab, scorers, line, controls.panel.warning)
    tab = Compare(lab, scorers, controls, results, {} if signals is None else signals)
    gr.on([controls.run.click, controls.prompt.submit], tab.run, controls.inputs | {results.rows}, results.outputs,
          js=SAY_ASKING, trigger_mode="multiple", **QUIET)
    controls.stop.click(tab.stop, None, results.status, js=SAY_STOPPING, queue=False, **QUIET)
    return tab


class Compare:
    """The tab's handlers: plain methods from component values to component values."""

    def __init__(self, lab: Lab, scorers: Sequence[Scorer], controls: Controls, results: Results,
                 signals: dict[str, Event]) -> None:
        self.lab, self.scorers, self.controls, self.results = lab, scorers, controls, results
        self.signals = signals  # of each visitor whose run is going, by gradio's session name: set it to end the run

    def run(self, values: Mapping[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Stream one run to the page; an error becomes one line in the status and leaves the rest as it was.

        A run of the same visitor that is still going ends without another word.
        """
        visitor = str(request.session_hash)
        signal = Event()
        self.stop(request)
        self.signals[visitor] = signal
        shown = False  # an earlier run's replies must not stand beside a prompt that gave none
        try:
            with closing(session.run(self.lab, self.scorers, self.request(values), stop=signal.is_set)) as views:
                for view in views:
                    if self.signals.get(visitor) is not signal:
                        return
                    shown = True
                    yield self.shown(view) | (self.recorded(view, values) if not view.running else {})
        except PatchLabError as error:
            yield self.problem(copy.sentence(str(error)), keep=shown)
        except Exception:  # the page outlives any single run
            log.exception("a run failed")
            yield self.problem(copy.UNEXPECTED, keep=shown)
        finally:
            if self.signals.get(visitor) is signal:
                del self.signals[visitor]

    def stop(self, request: gr.Request) -> str | dict[str, Any]:
        """Ask the visitor's run to end; it then writes its own last view. Where none is going the status says so."""
        signal = self.signals.get(str(request.session_hash))
        if signal is None:
            return status(copy.NOTHING_TO_STOP)
        signal.set()
        return gr.skip()

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page: end their run, also one that waits in the scheduler's line."""
        self.stop(request)

    def problem(self, words: str, *, keep: bool) -> dict[Any, Any]:
        """The status line with an error; without `keep` columns and charts are as before any run."""
        r, names = self.results, self.lab.lane_names
        updates: dict[Any, Any] = {} if keep else {
            r.crisis: "",
            **{place: reply_columns.empty(name, index) for index, (name, place) in enumerate(zip(names, r.lanes, strict=True))},
            **{chart: charts.figure(scorer, names) for scorer, chart in r.charts.items()}}
        return updates | {r.status: status(words, problem=True)}

    def request(self, values: Mapping[Any, Any]) -> session.RunRequest:
        """The request that the components' values describe."""
        c = self.controls
        text = values[c.prompt] or ""
        prompt = Prompt(text, values[c.kind], copy.domain_of(text))
        sampling = Sampling(temperature=float(values[c.temperature]), max_new_tokens=int(values[c.length]),
                            seed=seed(values[c.seed]), top_p=TOP_P)
        return session.RunRequest(prompt, c.panel.stack(values), sampling, int(values[c.samples]))

    def shown(self, view: session.View) -> dict[Any, Any]:
        """The columns, charts and status of a view."""
        r, names = self.results, [lane.name for lane in view.lanes]
        words = ended(view)
        updates: dict[Any, Any] = {r.status: status(words, problem=words == copy.FAILED),
                                   r.warning: self.controls.panel.told(view.warnings), r.crisis: reply_columns.crisis(view)}
        for index, place in enumerate(r.lanes):
            updates[place] = reply_columns.column(view, index, view.prompt.domain)
        for scorer, chart in r.charts.items():
            updates[chart] = charts.figure(scorer, names, view)
        return updates

    def recorded(self, view: session.View, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """The list of runs with this one added."""
        rows = history.added(values[self.results.rows], history.row(view, view.prompt.domain))
        return {self.results.rows: rows, self.results.table: history.table(rows)}


def seed(typed: str) -> int:
    """The seed that a visitor typed, 0 where nothing is. Raises InputError for what is no whole number."""
    try:
        return int(typed.strip() or "0")
    except ValueError:
        raise InputError(f"the seed {typed[:40]!r}", expected="a whole number", do="type another or leave it empty") from None


def ended(view: session.View) -> str:
    """Whether a view is still being written, was stopped, or is done, in words."""
    if view.running:
        return copy.WRITING
    stops = {reply.stop for lane in view.lanes for reply in lane.replies}
    return copy.FAILED if "error" in stops else copy.STOPPED if "cancelled" in stops else copy.DONE


def status(words: str, *, problem: bool = False) -> str:
    """The status line; a problem interrupts a screen reader, anything else waits its turn.

    The number makes every line new to gradio, which would otherwise not replace what the browser wrote in between.
    """
    role = "alert" if problem else "status"
    return f'<p class="status {role}" role="{role}" data-number="{next(_shown)}">{escaped(words)}</p>'


def heading(words: str, note: str = "", *, classes: str = "") -> gr.HTML:
    """A section's heading with a sentence under it."""
    below = f'<p class="note">{escaped(note)}</p>' if note else ""
    return gr.HTML(f"<h2>{escaped(words)}</h2>{below}", apply_default_css=False, elem_classes=classes or None)


def _controls(lab: Lab) -> tuple[Controls, gr.HTML]:
    with gr.Row(elem_classes=["top"]):
        with gr.Column(scale=3, min_width=320, elem_classes=["ask"]):
            prompt = gr.Textbox(label=copy.PROMPT_LABEL, placeholder=copy.PROMPT_PLACEHOLDER, lines=1, max_lines=6,
                                elem_id="prompt", autofocus=True, interactive=True)
            kind = gr.Radio(copy.KINDS, value="chat", label=copy.KIND_LABEL, interactive=True, elem_id="kind")
            with gr.Row(elem_classes=["buttons"]):
                run = gr.Button(copy.RUN, variant="primary", elem_id="run", min_width=120, scale=0)
                stop = gr.Button(copy.STOP, elem_id="stop", min_width=120, scale=0)
            line = gr.HTML(status(copy.READY), apply_default_css=False, elem_id="status")
            _examples(prompt, kind, copy.groups(lab.name))
        with gr.Column(scale=2, min_width=320, elem_classes=["patches"]):
            panel = _panel(lab)
            curve_panel.build(lab, panel)
            with gr.Accordion(copy.MORE, open=False, elem_id="more"):
                settings = _settings()
    return Controls(prompt, kind, run, stop, *settings, panel), line


def _panel(lab: Lab) -> PatchPanel:
    """The controls of the stack, and the measured interactions of its patches."""
    panel = patch_panel.build(lab.planner, gates=lab.gates)
    interactions, broken = find_interactions(lab.registry, fingerprints=lab.base.fingerprints)
    for words in broken:
        log.warning(words)
    matrix_panel.build(list(panel.known.values()), interactions, panel.mode)
    return panel


def _settings() -> tuple[gr.Slider, gr.Slider, gr.Textbox, gr.Slider]:
    temperature = gr.Slider(0, 1.5, value=0.8, step=0.05, label=copy.TEMPERATURE[0], info=copy.TEMPERATURE[1], interactive=True)
    length = gr.Slider(8, 128, value=48, step=8, label=copy.LENGTH[0], info=copy.LENGTH[1], interactive=True, elem_id="length")
    samples = gr.Slider(1, 4, value=1, step=1, label=copy.SAMPLES[0], info=copy.SAMPLES[1], interactive=True, elem_id="samples")
    # a field of text: a browser's numbers are exact up to 2^53 only, and what was typed is what an error repeats
    seeds = gr.Textbox("0", max_lines=1, label=copy.SEED[0], info=copy.SEED[1], interactive=True, elem_id="seed")
    return temperature, length, seeds, samples


def _examples(prompt: gr.Textbox, kind: gr.Radio, groups: Mapping[str, Sequence[copy.Example]]) -> None:
    heading(copy.EXAMPLES_TITLE, classes="examples-title")
    for domain, examples in groups.items():
        with gr.Row(elem_classes=["examples"]):
            gr.HTML(f"<h3>{escaped(copy.DOMAINS[domain])}</h3>", apply_default_css=False, min_width=40)
            for example in examples:
                button = gr.Button(example.label, size="sm", min_width=40, scale=0, elem_classes=["example"])
                chosen = json.dumps([example.prompt.text, example.prompt.kind])
                # in the browser: nothing to wait for, and nothing in the queue
                button.click(None, None, [prompt, kind], js=CHOOSE.replace("CHOSEN", chosen), **QUIET)
    # an example's way of asking goes when its words do; one that the visitor chose stays
    prompt.change(None, [prompt, kind], kind, js=TYPE_OVER, trigger_mode="multiple", **QUIET)
    kind.input(None, None, None, js="() => { delete document.querySelector('#kind').dataset.example; }", trigger_mode="multiple",
               **QUIET)


def _results(lab: Lab, scorers: Sequence[Scorer], line: gr.HTML, warning: gr.HTML) -> Results:
    heading(copy.RESULTS_TITLE, copy.LEGEND, classes="section")
    help_first = gr.HTML("", apply_default_css=False, elem_id="crisis")
    with gr.Row(elem_classes=["lanes"], elem_id="lanes"):
        lanes = tuple(gr.HTML(reply_columns.empty(name, index), apply_default_css=False, elem_id=f"lane-{name}")
                      for index, name in enumerate(lab.lane_names))
    heading(copy.CHARTS_TITLE, " ".join(filter(None, (copy.CHARTS_NOTE, coarse_note(lab.judges)))), classes="section")
    drawn = {}
    with gr.Row(elem_classes=["charts"]):
        for scorer in scorers:
            with gr.Column(min_width=300, elem_classes=["chart"]):
                claim = claim_of(scorer.name)
                title = charts.TITLES.get(claim, claim)
                gr.HTML(f"<h3>{escaped(title)}</h3>{reply_columns.legend(lab.lane_names)}", apply_default_css=False)
                drawn[claim] = live_chart(charts.figure(claim, lab.lane_names), elem_id=f"chart-{claim}")
    rows = gr.State([])
    with gr.Row(elem_classes=["history-title", "section"]):
        heading(copy.HISTORY_TITLE)
        clear = gr.Button(copy.CLEAR, size="sm", scale=0, min_width=120, elem_id="clear")
    table = gr.HTML(history.table([]), apply_default_css=False, elem_id="history")
    clear.click(lambda: ([], history.table([])), None, [rows, table], queue=False, **QUIET)
    return Results(line, warning, help_first, lanes, drawn, rows, table)
