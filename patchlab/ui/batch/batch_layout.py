"""The Batch tab's components, and where they stand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.registry.profiles import find_profiles
from patchlab.ui import copy
from patchlab.ui.batch import batch_words
from patchlab.ui.batch.batch_prompts import PLAIN, TABLES
from patchlab.ui.diff import escaped
from patchlab.ui.kept_job import KeptKey
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.patches.manifest import Manifest

log = logging.getLogger(__name__)
STORAGE = "patchlab-batch"  # under which the browser keeps the key of its batch

# a row's button fills Compare's box as if it were typed, and opens that tab; a vote goes to the server
ON_TABLE = """
element.addEventListener('change', ({target}) => {
  if (target.dataset.ballot) trigger('input', {ballot: target.dataset.ballot, choice: target.value});
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('.open-in-compare');
  const page = element.closest('.tabs-of-preset') ?? document;
  const field = button && page.querySelector('#prompt textarea, #prompt input');
  if (!field) return;
  const [text, kind] = JSON.parse(button.dataset.prompt);
  const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set;
  delete page.querySelector('#kind')?.dataset.example;
  page.querySelector('[role=tab]')?.click();
  page.querySelector(`#kind input[value="${kind}"]`)?.click();
  set.call(field, text);
  field.dispatchEvent(new Event('input', {bubbles: true}));
  field.focus();
  window.scrollTo({top: 0});
});
"""


@dataclass(frozen=True, slots=True)
class BatchInputs:
    """What a batch is started from."""

    source: gr.Radio
    pasted: gr.Textbox
    upload: gr.File
    suite: gr.Dropdown
    count: gr.Slider
    kind: gr.Radio
    profile: gr.Dropdown
    versus: gr.Dropdown
    patches: gr.CheckboxGroup
    mode: gr.Radio
    gates: gr.Checkbox
    length: gr.Slider
    temperature: gr.Slider
    seed: gr.Textbox

    @property
    def all(self) -> set[Any]:
        """Every component."""
        return {getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class BatchOutputs:
    """What a batch is shown in; `shown` is the (key, status) that the results are of."""

    key: KeptKey
    shown: gr.State
    page: gr.State
    line: gr.HTML
    run: gr.Button
    stop: gr.Button
    resume: gr.Button
    remove: gr.Button
    results: gr.Column
    rates: gr.HTML
    filter: gr.Radio
    table: gr.HTML
    previous: gr.Button
    next: gr.Button
    format: gr.Dropdown
    file: gr.File

    @property
    def all(self) -> list[Any]:
        """Every component that a look at the batch may change."""
        return [*self.key.all, *(getattr(self, name) for name in self.__slots__ if name not in ("key", "format"))]


def place(lab: Lab) -> tuple[BatchInputs, BatchOutputs, gr.Button]:
    """Place the components in the open Blocks; the button makes a file."""
    key, shown, page = KeptKey.place(STORAGE), gr.State(""), gr.State(0)
    heading(batch_words.TITLE, batch_words.NOTE)
    with gr.Row(elem_classes=["batch-top"]):
        with gr.Column(scale=3, min_width=320):
            prompts = _prompts()
            with gr.Row(elem_classes=["batch-buttons"]):
                run = gr.Button(batch_words.RUN, variant="primary", elem_id="batch-run", min_width=170, scale=0)
                stop = gr.Button(batch_words.STOP, visible=False, elem_id="batch-stop", min_width=120, scale=0)
                resume = gr.Button(batch_words.RESUME, visible=False, elem_id="batch-resume", min_width=120, scale=0)
                remove = gr.Button(batch_words.REMOVE, visible=False, elem_id="batch-remove", min_width=190, scale=0)
            line = gr.HTML(status(batch_words.READY), apply_default_css=False, elem_id="batch-status")
        with gr.Column(scale=2, min_width=320):
            stack = _stack(lab)
            with gr.Accordion(batch_words.SETTINGS, open=False, elem_id="batch-more"):
                settings = _settings()
    with gr.Column(visible=False, elem_id="batch-results") as results:
        rates, filters, table, previous, following = _results()
        choice, export, file = _export()
    outputs = BatchOutputs(key, shown, page, line, run, stop, resume, remove, results, rates, filters, table, previous,
                           following, choice, file)
    return BatchInputs(*prompts, *stack, *settings), outputs, export


def heading(words: str, note: str = "", *, classes: str = "") -> gr.HTML:
    """A section's heading with a sentence under it."""
    below = f'<p class="note">{escaped(note)}</p>' if note else ""
    return gr.HTML(f"<h2>{escaped(words)}</h2>{below}", apply_default_css=False, elem_classes=classes or None)


def _prompts() -> tuple[gr.Radio, gr.Textbox, gr.File, gr.Dropdown, gr.Slider, gr.Radio]:
    source = gr.Radio(batch_words.SOURCES, value="paste", label=batch_words.SOURCE_LABEL, elem_id="batch-source",
                      interactive=True)
    pasted = gr.Textbox(label=batch_words.PASTE_LABEL, placeholder=batch_words.PASTE_PLACEHOLDER, lines=7, max_lines=14,
                        elem_id="batch-prompts", interactive=True)
    upload = gr.File(label=batch_words.UPLOAD_LABEL, file_types=[*PLAIN, *TABLES], type="filepath", visible=False,
                     elem_id="batch-upload", height=140, interactive=True)
    suite = gr.Dropdown(batch_words.SUITES, value="refusal", label=batch_words.SUITE_LABEL, visible=False, filterable=False,
                        elem_id="batch-suite", interactive=True)
    count = gr.Slider(10, 300, value=50, step=10, label=batch_words.COUNT_LABEL, visible=False, elem_id="batch-count", buttons=[],
                      interactive=True)
    kind = gr.Radio(copy.KINDS, value="chat", label=copy.KIND_LABEL, elem_id="batch-kind", interactive=True)
    return source, pasted, upload, suite, count, kind


def _stack(lab: Lab) -> tuple[gr.Dropdown, gr.Dropdown, gr.CheckboxGroup, gr.Radio, gr.Checkbox]:
    profiles, broken = find_profiles(lab.base.fingerprints)
    for words in broken:
        log.warning(words)
    profile = gr.Dropdown([(batch_words.NO_PROFILE, ""), *((name, name) for name in profiles)], value="", filterable=False,
                          label=batch_words.PROFILE_LABEL, info=batch_words.PROFILE_NOTE, visible=bool(profiles),
                          elem_id="batch-profile", interactive=True)
    versus = gr.Dropdown([(batch_words.NO_SECOND, ""), *((name, name) for name in profiles)], value="", filterable=False,
                         label=batch_words.SECOND_LABEL, info=batch_words.SECOND_NOTE, visible=bool(profiles),
                         elem_id="batch-versus", interactive=True)
    manifests = [installed.manifest for installed in lab.planner.installed()]
    patches = gr.CheckboxGroup(choices(manifests), value=[each.name for each in manifests], elem_id="batch-patches",
                               interactive=True, label=batch_words.PATCHES_LABEL if manifests else batch_words.NO_PATCHES)
    mode = gr.Radio(copy.MODES, value="parallel", label=copy.MODE_LABEL, visible=len(manifests) > 1, elem_id="batch-mode",
                    interactive=True)
    gated = any(each.gated for each in manifests)
    gates = gr.Checkbox(lab.gates and gated, label=copy.GATES_LABEL, info=copy.GATES_NOTE, visible=gated, elem_id="batch-gates",
                        interactive=True)
    return profile, versus, patches, mode, gates


def choices(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    """What the patches are called in the list to tick, each with its name."""
    return [(f"{each.title} (strength {each.strength:g})", each.name) for each in manifests]


def _settings() -> tuple[gr.Slider, gr.Slider, gr.Textbox]:
    length = gr.Slider(8, 128, value=48, step=8, label=copy.LENGTH[0], info=copy.LENGTH[1], elem_id="batch-length",
                       interactive=True)
    temperature = gr.Slider(0, 1.5, value=0.8, step=0.05, label=copy.TEMPERATURE[0], info=copy.TEMPERATURE[1], interactive=True)
    return length, temperature, gr.Textbox("0", max_lines=1, label=copy.SEED[0], info=copy.SEED[1], elem_id="batch-seed",
                                           interactive=True)


def _results() -> tuple[gr.HTML, gr.Radio, gr.HTML, gr.Button, gr.Button]:
    heading(batch_words.RATES_TITLE, batch_words.RATES_NOTE, classes="batch-section")
    rates = gr.HTML("", apply_default_css=False, elem_id="batch-rates")
    heading(batch_words.TABLE_TITLE, classes="batch-section")
    filters = gr.Radio([(words, name) for name, words in batch_words.FILTERS.items()], value="all", elem_id="batch-filter",
                       label=batch_words.FILTER_LABEL, interactive=True)
    table = gr.HTML("", apply_default_css=False, elem_id="batch-table", js_on_load=ON_TABLE)
    with gr.Row(elem_classes=["batch-buttons"]):
        previous = gr.Button(batch_words.PREVIOUS, size="sm", scale=0, min_width=110, elem_id="batch-previous")
        following = gr.Button(batch_words.NEXT, size="sm", scale=0, min_width=110, elem_id="batch-next")
    return rates, filters, table, previous, following


def _export() -> tuple[gr.Dropdown, gr.Button, gr.File]:
    heading(batch_words.EXPORT_TITLE, batch_words.EXPORT_NOTE, classes="batch-section")
    with gr.Row(elem_classes=["batch-export"]):
        choice = gr.Dropdown(batch_words.EXPORTS, value="csv", label=batch_words.EXPORT_LABEL, filterable=False, scale=0,
                             min_width=220, elem_id="batch-format", interactive=True)
        export = gr.Button(batch_words.EXPORT, scale=0, min_width=180, elem_id="batch-export")
        file = gr.File(label=batch_words.FILE_LABEL, visible=False, interactive=False, elem_id="batch-file", scale=1)
    return choice, export, file
