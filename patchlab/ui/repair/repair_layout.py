"""Where the parts of the Repair tab stand: the failure, what caused it, and the repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from patchlab.repair.repair import EPOCHS
from patchlab.ui.diff import escaped
from patchlab.ui.repair import repair_words
from patchlab.ui.status_line import status


@dataclass(frozen=True, slots=True)
class RepairParts:
    """The tab's components."""

    model: gr.Radio
    prompt: gr.Textbox
    reply: gr.Textbox
    example: gr.Button
    locate: gr.Button
    line: gr.HTML
    found: gr.HTML
    cut: gr.CheckboxGroup
    injected: gr.HTML
    change: gr.Radio
    epochs: gr.Slider
    repair: gr.Button
    stop: gr.Button
    save: gr.Button
    repair_line: gr.HTML
    progress: gr.HTML
    results: gr.HTML
    case: gr.State
    done: gr.State
    installed: gr.State

    @property
    def failure(self) -> set[Any]:
        """What a failure is read from."""
        return {self.model, self.prompt, self.reply}

    @property
    def settings(self) -> set[Any]:
        """What a repair is read from."""
        return {self.cut, self.change, self.epochs, self.case}


def place(*, planted: bool, allowed: bool) -> RepairParts:
    """Place the components in the open Blocks; `planted` offers the model with a trigger, `allowed` the repair."""
    gr.HTML(f'<h2>{escaped(repair_words.TITLE)}</h2><p class="note">{escaped(repair_words.NOTE)}</p>', apply_default_css=False)
    models = [(repair_words.OWN_MODEL, "own"), *([(repair_words.PLANTED_MODEL, "planted")] if planted else [])]
    model = gr.Radio(models, value="own", label=repair_words.MODEL_LABEL, visible=planted, interactive=True,
                     elem_id="repair-model")
    with gr.Row():
        prompt = gr.Textbox(label=repair_words.PROMPT_LABEL, placeholder=repair_words.PROMPT_PLACEHOLDER, lines=2, max_lines=6,
                            interactive=True, elem_id="repair-prompt", min_width=260)
        reply = gr.Textbox(label=repair_words.REPLY_LABEL, placeholder=repair_words.REPLY_PLACEHOLDER, lines=2, max_lines=6,
                           interactive=True, elem_id="repair-reply", min_width=260)
    with gr.Row():
        locate = gr.Button(repair_words.LOCATE, variant="primary", scale=0, min_width=190, elem_id="repair-locate")
        example = gr.Button(repair_words.EXAMPLE, visible=planted, scale=0, min_width=230, elem_id="repair-example")
        line = gr.HTML(status(repair_words.READY), apply_default_css=False, elem_id="repair-status", min_width=0)
    found = gr.HTML("", apply_default_css=False, elem_id="repair-found")
    cut = gr.CheckboxGroup([], label=repair_words.CUT_LABEL, info=repair_words.CUT_INFO, visible=False, interactive=True,
                           elem_id="repair-cut")
    injected = gr.HTML("", apply_default_css=False, elem_id="repair-injected")
    gr.HTML(f"<h2>{escaped(repair_words.REPAIR_TITLE)}</h2>{_explained(allowed)}", apply_default_css=False)
    with gr.Row(visible=allowed):
        change = gr.Radio(repair_words.CHANGES, value="prefix", label=repair_words.CHANGE_LABEL, info=repair_words.CHANGE_INFO,
                          interactive=True, elem_id="repair-change")
        epochs = gr.Slider(1, 30, value=EPOCHS["prefix"], step=1, label=repair_words.EPOCHS[0], info=repair_words.EPOCHS[1],
                           interactive=True, elem_id="repair-epochs")
    with gr.Row(visible=allowed):
        repair = gr.Button(repair_words.REPAIR, variant="primary", scale=0, min_width=110, elem_id="repair-run")
        stop = gr.Button(repair_words.STOP, scale=0, min_width=90, elem_id="repair-stop")
        save = gr.Button(repair_words.SAVE, scale=0, min_width=140, elem_id="repair-save", interactive=False)
        repair_line = gr.HTML("", apply_default_css=False, elem_id="repair-line", min_width=0)
    progress = gr.HTML("", apply_default_css=False, elem_id="repair-progress")
    results = gr.HTML("", apply_default_css=False, elem_id="repair-results")
    return RepairParts(model, prompt, reply, example, locate, line, found, cut, injected, change, epochs, repair, stop, save,
                       repair_line, progress, results, gr.State(None), gr.State(None), gr.State(()))


def _explained(allowed: bool) -> str:
    """What a repair does, or who can allow it."""
    if allowed:
        return f'<p class="note">{escaped(repair_words.ALLOWED)}</p>'
    parts = escaped(repair_words.NOT_ALLOWED).split("`")
    said = "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))
    return f'<p class="note">{said} <code>{escaped(repair_words.COMMAND)}</code></p>'
