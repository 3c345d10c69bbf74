"""The chart of what each strength does: valid for plotly, right numbers, the strength that is set marked; gates in the panel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go
import pytest
from made_views import text, view

from patchlab.engine import Lab, Sampling
from patchlab.patches import Curve, Gate, Point, Stack
from patchlab.patches.manifest import CURVE_FILE
from patchlab.records import Measure, Prompt
from patchlab.registry import Registry
from patchlab.ui import page, session
from patchlab.ui.compare import patch_panel
from patchlab.ui.compare.history import stack_words
from patchlab.ui.compare.reply_columns import column
from patchlab.ui.evaluate import curve_panel
from patchlab.ui.evaluate.curve_panel import figure, legend


def measured(suite: str, metric: str, value: float) -> Measure:
    return Measure(suite, "patched", metric, value, value - 0.05, value + 0.05, 80, "made")


CURVE = Curve(tuple(Point(strength, (
    measured("refusal", "refusal_rate", 0.1 + 0.4 * strength), measured("overrefusal", "refusal_rate", 0.1 * strength + 0.05),
    measured("drift", "kl_to_base", 0.2 * strength + 0.05))) for strength in (0.0, 0.5, 1.0, 2.0)))


@pytest.fixture
def full(lab: Lab, tmp_path: Path) -> Lab:
    """The shipped patches; refusal has a gate that lets everything through, toxicity one that lets nothing, both a curve."""
    for name, bias in (("refusal", -1.0), ("toxicity", 1.0)):
        patch = lab.planner.patch(name)
        gate = Gate(0, np.zeros(patch.manifest.width, np.float32), bias)
        dataclasses.replace(patch, gate=gate, curve=CURVE).save_pretrained(tmp_path / patch.manifest.folder_name)
    return Lab(lab.base, lab.reference, registry=Registry([tmp_path, *lab.registry.folders]))


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0, 2.0])
def test_a_figure_is_valid_and_marks_the_strength(strength: float) -> None:
    drawn = figure(CURVE, strength)
    go.Figure(drawn["data"], drawn["layout"])  # refuses what plotly does not know
    assert [line["x"] for line in drawn["data"]] == [[0.0, 0.5, 1.0, 2.0]] * 3
    assert drawn["data"][0]["y"] == pytest.approx([0.1, 0.3, 0.5, 0.9])
    assert drawn["layout"]["shapes"][0]["x0"] == strength and f"now {strength:g}" in json.dumps(drawn["layout"])
    assert all(line["name"] in legend(CURVE) for line in drawn["data"])


def test_the_summary_says_what_was_measured_nearest() -> None:
    assert figure(CURVE, 1.2)["summary"] == (
        "Measured at strength 1: harmful requests refused 0.50, harmless requests refused 0.15, drift on harmless requests 0.25 "
        "(up to 80 prompts each).")


def test_a_curve_of_no_figures_draws_nothing_and_says_so() -> None:
    drawn = figure(Curve((Point(1.0, ()),)), 1.0)
    assert drawn["data"] == [] and "nothing" in drawn["summary"]


def values(panel: patch_panel.PatchPanel, **changed: Any) -> dict[Any, Any]:
    return panel.begun | {getattr(panel, name): value for name, value in changed.items()}


def test_gates_are_off_until_asked_for(full: Lab) -> None:
    with gr.Blocks():
        panel = patch_panel.build(full.planner)
        curve_panel.build(full, panel)
    assert panel.gates.visible and not panel.stack(values(panel)).gates and panel.stack(values(panel, gates=True)).gates
    assert panel.strength("refusal", values(panel)) == full.planner.patch("refusal").manifest.strength
    assert panel.strength("refusal", values(panel, mode="sequential", shared=0.4)) == 0.4


def test_a_page_whose_patches_have_neither_shows_neither(full: Lab, tmp_path: Path) -> None:
    for name in ("refusal", "toxicity"):
        patch = dataclasses.replace(full.planner.patch(name), gate=None, curve=None)
        patch.save_pretrained(tmp_path / "bare" / patch.manifest.folder_name)
    bare = Lab(full.base, full.reference, registry=Registry([tmp_path / "bare"]))
    for lab, shown in ((bare, False), (full, True)):
        with gr.Blocks() as blocks:
            panel = patch_panel.build(lab.planner)
            curve_panel.build(lab, panel)
        ids = {getattr(block, "elem_id", None) for block in blocks.blocks.values()}
        assert ("chart-curve" in ids) == panel.gates.visible == shown


def test_a_patch_that_cannot_be_read_has_no_curve_and_the_page_still_opens(full: Lab, tmp_path: Path) -> None:
    assert set(curve_panel.curves(full)) == {"bias", "refusal", "toxicity"}
    curve = tmp_path / full.planner.patch("refusal").manifest.folder_name / CURVE_FILE
    curve.write_bytes(curve.read_bytes().replace(b"0.5", b"0.6"))
    full = Lab(full.base, registry=Registry(full.registry.folders))  # one that has not read it yet
    assert set(curve_panel.curves(full)) == {"bias", "toxicity"}
    page.warm_up(full)
    with gr.Blocks():
        assert "was changed" in patch_panel.build(full.planner).warning.value


def test_a_run_says_which_patches_its_gates_left_off(full: Lab) -> None:
    asked = session.RunRequest(Prompt("Hello"), Stack.parse("refusal,toxicity", gates=True), Sampling(max_new_tokens=3))
    *_, last = session.run(full, [], asked)
    assert last.skipped_by_gate == ("refusal",)
    *_, plain = session.run(full, [], dataclasses.replace(asked, stack=Stack.parse("refusal,toxicity")))
    assert plain.skipped_by_gate == ()


def test_a_column_and_the_list_of_runs_say_it_too() -> None:
    shown = dataclasses.replace(view({"base": [text("hi")], "patched": [text("hi")]}), skipped_by_gate=("bias",))
    assert "A gate decided that 1 of 2 patches stay off" in column(shown, 1) and "gate decided" not in column(shown, 0)
    assert stack_words(shown).endswith("(off by their gates: bias)")


def test_the_page_shows_the_version_that_runs(lab: Lab, tmp_path: Path) -> None:
    """A candidate beside a release: one order of versions decides for the slider and for the stack."""
    patch = lab.planner.patch("refusal")
    candidate = dataclasses.replace(patch.manifest, version="2.0.0-rc.1", strength=0.25, title="Candidate", files={})
    dataclasses.replace(patch, manifest=candidate).save_pretrained(tmp_path / candidate.folder_name)
    both = Lab(lab.base, lab.reference, registry=Registry([tmp_path, *lab.registry.folders]))
    with gr.Blocks():
        panel = patch_panel.build(both.planner)
    shown = panel.known["refusal"]
    [one] = [each for each in both.planner.plan(panel.stack(panel.begun)).patches if each.patch.manifest.name == "refusal"]
    assert (shown.version, shown.strength) == (one.patch.manifest.version, one.strength) == ("1.0.0", patch.manifest.strength)
    assert panel.strength("refusal", panel.begun) == patch.manifest.strength
