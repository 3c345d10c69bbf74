"""The Train tab: a training from start over stop to a patch that is ticked; what is refused; and its story in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import plotly.graph_objects as go
import pytest
from made_models import make_backbone, make_patch
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.errors import BusyError, InputError, NotFoundError
from patchlab.records import Progress
from patchlab.registry import Registry
from patchlab.storage import write_json, write_jsonl
from patchlab.ui import train
from patchlab.ui.train import loss_chart, train_tab, train_words, training_store
from patchlab.ui.train.training_store import Trainings, TrainingSettings, TrainingState, recipe_of

pytestmark = pytest.mark.xdist_group("tabs")

WORDS = ("the bus is late", "who did this", "people like that", "my neighbor", "this again", "some fool")
RECIPE = ("domain: toxicity\nrows: 4\nhold_rows: 4\nsft_steps: 12\ndpo_steps: 6\nsamples: 2\nmargin: 0.0\nwinner: 1.0\n"
          "max_new_tokens: 5\ntitle: Calm\n")
SETTINGS = TrainingSettings("tiny", "toxicity", "my-calm", "1.0.0", steps=12, length=4, seed=3, judged=0)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A tiny lab, a recipe and prompts that train on it in seconds, and a home of its own."""
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "home"))
    (tmp_path / "toxicity.yaml").write_text(RECIPE, encoding="utf-8")
    rows = [{"text": words, "kind": "continue", "domain": "toxicity"} for words in WORDS] + [
        {"text": f"how do i {words}", "kind": "chat", "domain": "benign"} for words in WORDS]
    write_jsonl(tmp_path / "train.jsonl", rows)
    monkeypatch.setattr(training_store, "RECIPES", tmp_path)
    monkeypatch.setattr(training_store, "PROMPTS", tmp_path / "train.jsonl")
    base, folder = make_backbone("llama"), tmp_path / "home" / "patches"
    make_patch(base, "mate", length=3).save_pretrained(folder / "mate-1.0.0")
    return Lab(base, make_backbone("llama", seed=1), registry=Registry([folder]), name="tiny")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(train_tab, "TRAININGS", made)
    return made


def ended(trainings: Trainings, key: str) -> TrainingState:
    for _ in range(1200):
        if (state := trainings.state(key)).status != "running":
            return state
        time.sleep(0.1)
    raise AssertionError("the training does not end")


def stopping(monkeypatch: pytest.MonkeyPatch, at: int) -> Event:
    """The next training waits after this many records of progress until the returned event is set."""
    steps, go_on = training_store.run, Event()

    def held(*args: Any) -> Iterator[Any]:
        monkeypatch.setattr(training_store, "run", steps)
        for number, step in enumerate(steps(*args)):
            yield step
            if number == at:
                assert go_on.wait(60)

    monkeypatch.setattr(training_store, "run", held)
    return go_on


def test_a_training_is_stopped_goes_on_and_installs_the_patch(own: Lab, trainings: Trainings, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = stopping(monkeypatch, 30)
    key = trainings.start(own, SETTINGS)
    with pytest.raises(BusyError, match="one at a time"):
        trainings.start(own, SETTINGS)
    trainings.stop(key)
    go_on.set()
    assert ended(trainings, key).status == "stopped"
    assert Trainings().state(key).status == "stopped", "another process finds it too"
    trainings.resume(own, key)
    state = ended(trainings, key)
    assert (state.status, state.error) == ("done", "")
    [patch] = [each.manifest for each in own.planner.installed() if each.manifest.name == "my-calm"]
    assert (patch.version, patch.length, patch.title) == ("1.0.0", 4, "Calm (my-calm)")
    work = trainings.folder(key) / training_store.WORK
    rows = loss_chart.logged(work)
    assert [row["stage"] for row in rows] == ["sft"] * 12 + ["dpo"] * 6
    drawn = loss_chart.figure(rows)
    go.Figure(drawn["data"], drawn["layout"])
    assert len(drawn["layout"]["shapes"]) == 1 and len(drawn["data"][0]["x"]) == 18 and "stage dpo" in drawn["summary"]
    assert "kept" in loss_chart.pairs(work) and loss_chart.pairs(work).count("<li>") == loss_chart.EXAMPLES
    assert train_tab.next_version(own, "my-calm") == "1.1.0" and train_tab.next_version(own, "new") == "1.0.0"


def test_a_failure_is_one_line_without_a_path_and_the_server_is_free(own: Lab, trainings: Trainings, tmp_path: Path) -> None:
    (tmp_path / "toxicity.yaml").write_text(RECIPE.replace("winner: 1.0", "winner: 0.0").replace("samples: 2", "samples: 1"))
    key = trainings.start(own, SETTINGS)
    state = ended(trainings, key)
    assert state.status == "failed" and state.error and str(tmp_path) not in state.error
    assert train_words.FAILED in train_tab.said(state)
    (tmp_path / "toxicity.yaml").write_text(RECIPE)
    trainings.start(own, SETTINGS)


def test_a_key_and_a_domain_of_a_strangers_making_open_nothing(own: Lab, trainings: Trainings) -> None:
    for key in ("", "../x", "0" * 32, "A" * 32):
        with pytest.raises(NotFoundError):
            trainings.state(key)
    with pytest.raises(NotFoundError, match="unknown domain"):
        recipe_of(own, TrainingSettings("tiny", "../../etc/passwd", "x", "1.0.0", 10, 4, 0, 0))


def test_what_a_recipe_needs_a_reference_for_is_left_out_without_one(own: Lab, tmp_path: Path) -> None:
    (tmp_path / "toxicity.yaml").write_text(RECIPE + "distill: 1.0\nown_steps: 4\n")
    half = recipe_of(own, TrainingSettings("tiny", "toxicity", "x", "1.0.0", 6, 4, 0, 0))
    assert (half.sft_steps, half.own_steps, half.dpo_steps, half.distill) == (6, 2, 3, 1.0)
    alone = recipe_of(Lab(own.base, registry=own.registry), SETTINGS)
    assert (alone.reference, alone.own_steps, alone.distill) == ("none", 0, 0.0)


def placed(lab: Lab, *, allowed: bool) -> tuple[train.TrainTab, set[Any]]:
    with gr.Blocks(analytics_enabled=False) as blocks:
        tab = train.build(lab, [], allowed=allowed)
    return tab, {getattr(block, "elem_id", None) for block in blocks.blocks.values()}


def test_without_permission_there_are_words_and_commands_only(own: Lab, lab: Lab) -> None:
    tab, ids = placed(own, allowed=False)
    assert tab.controls is None and "train-start" not in ids
    assert "--base MODEL" in train_tab.explained(own) and "patchlab train refusal --preset pocket" in train_tab.explained(lab)


@pytest.mark.parametrize(("changed", "words"), [({"name": "Not A Name"}, "the name"), ({"name": "../x"}, "the name"),
                                                ({"seed": "x"}, "the seed"), ({"domain": "other"}, "unknown domain")])
def test_a_mistake_is_one_line_and_starts_nothing(own: Lab, trainings: Trainings, changed: dict[str, str], words: str) -> None:
    tab, _ = placed(own, allowed=True)
    c = tab.controls
    assert c
    values: dict[Any, Any] = {each: each.value for each in (c.domain, c.name, c.steps, c.length, c.seed, c.judged)}
    values |= {tab.installed: (), c.key.kept: "", c.key.started: ""}
    found = tab.start(values | {getattr(c, name): value for name, value in changed.items()})
    assert set(found) == {c.line} and 'role="alert"' in found[c.line] and words in found[c.line].lower()
    with pytest.raises(InputError):
        train_tab.seed("x")


def test_words_of_a_running_training_say_stage_progress_and_time() -> None:
    state = TrainingState("k", SETTINGS, "running", Progress("sft", 30, 200, "loss 0.512"), 60.0)
    assert train_tab.said(state) == "Stage “sft”: 30 of 200, about 60 seconds left. loss 0.512"
    assert 'max="200" value="30"' in train_tab.bar(state)
    assert loss_chart.figure([])["summary"] == train_words.NO_STEP
    assert len(loss_chart.figure([{"stage": "sft", "step": k, "loss": 1.0} for k in range(3000)])["data"][0]["x"]) <= 401


def test_pairs_are_escaped(tmp_path: Path) -> None:
    assert loss_chart.pairs(tmp_path) == ""
    write_json(tmp_path / "pairs.json", {"kept": 1, "<b>": 2})
    (tmp_path / "pairs.jsonl").write_text("", encoding="utf-8")
    assert "<b>" not in loss_chart.pairs(tmp_path) and "2 &lt;b&gt;" in loss_chart.pairs(tmp_path)


def test_a_patch_is_trained_and_ticked_in_a_browser(browser: Browser, own: Lab, trainings: Trainings) -> None:
    with served(own, allowed=["training"]) as address:
        visit = Visit(browser, address)
        page = visit.page
        visit.tab("Train")
        page.click("#train-domain label:has-text('insults')")
        page.wait_for_function("document.querySelector('#train-name input, #train-name textarea').value === 'my-toxicity'")
        page.fill("#train-name input, #train-name textarea", "Not A Name")
        page.click("#train-start")
        page.wait_for_selector("#train-status [role=alert]:has-text('The name')")
        page.fill("#train-name input, #train-name textarea", "my-calm")
        for field, value in (("steps", "20"), ("length", "4"), ("judged", "0")):
            page.fill(f"#train-{field} input[type=number]", value)
            page.press(f"#train-{field} input[type=number]", "Tab")
        page.click("#train-start")
        page.wait_for_selector("#train-status:has-text('Done: my-calm 1.0.0')")
        page.wait_for_selector("#chart-training .main-svg >> visible=true")
        page.wait_for_selector("#train-pairs:has-text('kept')")
        visit.shot("train-desktop")
        visit.tab("Compare")
        page.wait_for_selector(".patch-slot:has-text('Calm (my-calm)')")
        assert page.locator(".patch-slot input[type=checkbox]").nth(1).is_checked()
        visit.left(address)
