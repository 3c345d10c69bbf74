"""Batches as laws: the replies of `patchlab evaluate`, each drawn once however often it stops, and a key as the only way in."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from made_page_batches import ended, settings
from made_suites import SAMPLING, WORDS, make_lab

from patchlab.engine import Lab
from patchlab.errors import BusyError, InputError, NotFoundError
from patchlab.evaluation import evaluate
from patchlab.evaluation.reply_store import ROWS, read_replies
from patchlab.patches import Stack
from patchlab.records import Progress, Prompt, Report
from patchlab.storage import write_jsonl
from patchlab.ui.batch import batch_store
from patchlab.ui.batch.batch_prompts import as_row
from patchlab.ui.batch.batch_store import Batches

PROMPTS = [Prompt(words) for words in WORDS]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("patches"))


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    return Batches(tmp_path / "batches")


def test_a_batch_has_the_replies_and_figures_of_evaluate(batches: Batches, lab: Lab, tmp_path: Path) -> None:
    key = batches.start(lab, settings(lab), PROMPTS)
    state = ended(batches, key)
    assert (state.status, state.done, state.total) == ("done", 18, 18)
    write_jsonl(tmp_path / "prompts.jsonl", map(as_row, PROMPTS))
    [report] = [step for step in evaluate(lab, stack=Stack.parse("calm:0.5"), suites=[f"prompts={tmp_path / 'prompts.jsonl'}"],
                                          seed=3, samples=1, sampling=SAMPLING, out=tmp_path / "out", lanes=lab.lane_names)
                if isinstance(step, Report)]
    assert {*batches.replies(key)} == {*read_replies(tmp_path / "out" / ROWS)}
    made = json.loads((batches.folder(key) / "report.json").read_text())
    assert [row["value"] for row in made["measures"]] == [m.value if m.value == m.value else None for m in report.measures]
    assert {m.metric for m in report.measures} >= {"toxic_rate", "refusal_rate", "empty_rate"}
    assert key not in json.dumps(made) and str(tmp_path) not in json.dumps(made)


def test_a_stopped_batch_goes_on_from_its_replies_also_in_another_process(
        batches: Batches, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    go, run = Event(), batch_store.run

    def held(*args: object) -> Iterator[Progress]:
        for progress in run(*args):  # type: ignore[arg-type]
            yield progress
            if progress.done >= 4:
                go.wait(60)

    monkeypatch.setattr(batch_store, "run", held)
    key = batches.start(lab, settings(lab), PROMPTS)
    while batches.state(key).done < 4:
        time.sleep(0.02)
    batches.stop(key)
    go.set()
    state = ended(batches, key)
    assert state.status == "stopped" and 4 <= state.done < 18
    before = (batches.folder(key) / ROWS).read_bytes()
    monkeypatch.undo()
    again = Batches(batches.root)
    assert again.state(key) == state
    again.resume(lab, key)
    assert ended(again, key).status == "done" and (again.folder(key) / ROWS).read_bytes().startswith(before)
    assert texts(again, key) == texts(again, again_whole(again, lab))


def texts(batches: Batches, key: str) -> dict[tuple[str, str], str]:
    return {(reply.lane, reply.prompt.key): reply.text for reply in batches.replies(key)}


def again_whole(batches: Batches, lab: Lab) -> str:
    key = batches.start(lab, settings(lab), PROMPTS)
    ended(batches, key)
    return key


def test_a_key_is_a_secret_and_no_path(batches: Batches, lab: Lab) -> None:
    keys = {again_whole(batches, lab) for _ in range(2)}
    assert len(keys) == 2 and all(len(key) == 32 for key in keys)
    for wrong in ("", "0" * 32, "../" * 8, next(iter(keys)).upper(), next(iter(keys))[:-1], "*", None):
        with pytest.raises(NotFoundError, match="no batch of this browser"):
            batches.state(wrong)  # type: ignore[arg-type]


def test_further_batches_wait_and_too_many_are_refused(batches: Batches, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    go = Event()

    def held(*args: object) -> Iterator[Progress]:
        go.wait(60)
        yield Progress("prompts", 18, 18)

    monkeypatch.setattr(batch_store, "run", held)
    monkeypatch.setattr(batch_store, "IN_LINE", 2)
    keys = [batches.start(lab, settings(lab), PROMPTS) for _ in range(4)]
    assert [batches.state(key).status for key in keys] == ["running", "running", "waiting", "waiting"]
    assert [batches.state(key).place for key in keys] == [0, 0, 1, 2]
    with pytest.raises(BusyError, match="wait already"):
        batches.start(lab, settings(lab), PROMPTS)
    batches.stop(keys[2])
    assert batches.state(keys[3]).place == 1 and batches.state(keys[2]).status == "stopped"
    go.set()
    ended(batches, keys[3])


def test_a_failure_is_one_line_and_keeps_the_replies(batches: Batches, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    key = again_whole(batches, lab)
    (batches.folder(key) / "report.html").unlink()
    other = make_lab(lab.registry.folders[0])
    (batches.folder(key) / "settings.json").write_text("{}")
    batches.resume(other, key)
    state = ended(batches, key)
    assert state.status == "failed" and "this batch holds an evaluation with" in state.error and key not in state.error
    assert len(batches.replies(key)) == 18


def test_a_batch_of_another_preset_is_not_continued(batches: Batches, lab: Lab) -> None:
    key = again_whole(batches, lab)
    (batches.folder(key) / "report.html").unlink()
    other = make_lab(lab.registry.folders[0])
    other.name = "other"
    with pytest.raises(InputError, match="a batch of the model tiny; expected one of other"):
        batches.resume(other, key)


def test_a_removed_batch_and_an_old_one_leave_nothing(batches: Batches, lab: Lab) -> None:
    first, second, third = (again_whole(batches, lab) for _ in range(3))
    folder = batches.folder(first)
    batches.remove(first)
    assert not folder.exists()
    old = time.time() - batch_store.KEPT_SECONDS - 60
    os.utime(batches.folder(second), (old, old))
    again_whole(batches, lab)
    with pytest.raises(NotFoundError):
        batches.state(second)
    assert batches.state(third).status == "done"
