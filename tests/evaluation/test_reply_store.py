"""Replies that went to a folder are never drawn again and never lost, whatever ends the run."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_models import TEMPLATE, byte_level, make_model
from made_suites import SAMPLING, make_lab, write_suites

from patchlab.engine import Lab, Sampling
from patchlab.errors import InputError
from patchlab.evaluation import evaluate, rows
from patchlab.evaluation.reply_store import Replies, made_with
from patchlab.models import Backbone
from patchlab.patches import Stack
from patchlab.records import Message, Progress, Prompt, Reply, Report

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from made_suites import make_lab, write_suites
from test_reply_store import steps
home = Path({home!r})
for step in steps(make_lab(home / "patches"), home):
    if step.stage == "refusal" and step.done == 7:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def steps(lab: Lab, home: Path, *, sampling: Sampling = SAMPLING) -> Iterator[Progress | Report]:
    """The evaluation that all tests here run or stop."""
    return evaluate(lab, stack=Stack.parse("calm"), suites=["refusal", "fluency"], n=6, folder=home / "prompts",
                    sampling=sampling, out=home / "out")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with prompts and an installed patch."""
    write_suites(tmp_path / "prompts")
    return tmp_path


def lines(home: Path) -> list[str]:
    return (home / "out" / "replies.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_run_that_was_killed_goes_on_to_the_very_same_report(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    lab = make_lab(home / "patches")
    code = KILLED.format(path=[str(Path(__file__).parents[1] / "made"), *sys.path], home=str(home))
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=dict(os.environ), timeout=600,
                          capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = lines(home)
    assert len(kept) == 7
    with (home / "out" / "replies.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"lane": "base", "row": 3, "pro')  # as a kill in the middle of a write leaves it
    first, *_, report = steps(lab, home)
    assert isinstance(first, Progress) and isinstance(report, Report) and first.done == 7
    assert lines(home)[:7] == kept and len(lines(home)) == len(set(lines(home))) == 36

    other = tmp_path_factory.mktemp("whole")
    write_suites(other / "prompts")
    *_, whole = steps(make_lab(other / "patches"), other)
    assert isinstance(whole, Report) and rows(whole) == rows(report) and whole.replies == report.replies


def test_a_finished_run_draws_nothing_again(home: Path) -> None:
    lab = make_lab(home / "patches")
    list(steps(lab, home))
    before = lines(home)
    found = list(steps(lab, home))
    assert [(s.stage, s.done) for s in found if isinstance(s, Progress)] == [("refusal", 18), ("fluency", 18)]
    assert lines(home) == before


def test_conversations_and_how_replies_ended_come_back_as_they_were(home: Path) -> None:
    lab = make_lab(home / "patches")
    before = (Message("user", "hello \ud83d"), Message("assistant", "hi"))
    asked = [Prompt("go on", earlier=before), Prompt("go on", system="be kind"), Prompt("go on"), Prompt("go \ud83d on")]

    def draw() -> tuple[Progress, list[Reply]]:
        store, found = Replies({"any": "settings"}, home / "out"), []

        def drawing() -> Iterator[Progress]:
            found.extend((yield from store.draw(lab.lanes("calm"), asked, 2, SAMPLING, "stage")))

        first, *_ = drawing()
        store.close()
        return first, found

    (empty, drawn), (full, again) = draw(), draw()
    assert (empty.done, full.done, full.total, len(lines(home))) == (0, 24, 24, 24) and again == drawn
    assert {reply.stop for reply in drawn} <= {"end", "length"} and len({reply.prompt.key for reply in drawn}) == 4


def test_models_that_differ_are_recorded_each_with_its_dtype_and_the_date_of_its_template(llama: Backbone) -> None:
    model, tokenizer = make_model("llama", vocabulary=len(byte_level())), copy.deepcopy(byte_level())
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}\n" + TEMPLATE
    dated = Backbone(model.to(torch.bfloat16), tokenizer, name="dated")
    found, alone = made_with(SAMPLING, llama, dated), made_with(SAMPLING, llama)
    assert dated.chat.pinned_date and found["template_date"] == f"none and {dated.chat.pinned_date}"
    assert found["dtype"] == "float32 and bfloat16" and found["bits"] == "as they are"
    assert (alone["template_date"], alone["dtype"]) == ("none", "float32")


def test_other_settings_in_the_folder_are_an_error_that_names_them(home: Path) -> None:
    lab = make_lab(home / "patches")
    next(steps(lab, home))
    with pytest.raises(InputError, match=r"temperature 0\.8 and now 0\.5; expected the same settings"):
        next(steps(lab, home, sampling=Sampling(max_new_tokens=5, seed=3, temperature=0.5)))
    next(steps(lab, home))
    (home / "prompts" / "harmful.jsonl").write_text('{"text": "another request"}\n')
    with pytest.raises(InputError, match="prompts "):
        next(steps(lab, home))


@pytest.mark.parametrize(("name", "text", "said"), [
    ("replies.jsonl", "", "without their settings"), ("settings.json", "{", "not a JSON object"),
    ("settings.json", "[]", "not a JSON object")])
def test_a_folder_of_something_else_is_left_alone(name: str, text: str, said: str, home: Path) -> None:
    (home / "out").mkdir()
    (home / "out" / name).write_text(text)
    with pytest.raises(InputError, match=said):
        next(steps(make_lab(home / "patches"), home))
    assert (home / "out" / name).read_text() == text


def test_a_row_that_is_no_reply_is_an_error(home: Path) -> None:
    lab = make_lab(home / "patches")
    next(steps(lab, home))
    (home / "out" / "replies.jsonl").write_text(json.dumps({"lane": "base"}) + "\n")
    with pytest.raises(InputError, match="no reply"):
        next(steps(lab, home))
