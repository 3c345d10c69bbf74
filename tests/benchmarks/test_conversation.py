"""Settings keep the request and change what stands before it; the same request gets the same conversation every time."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import byte_level, make_model, make_patch, saved

from benchmarks.quality import conversation, conversation_laws, conversation_pocket
from benchmarks.quality import conversation_suites as suites
from benchmarks.quality.conversation_cost import live
from benchmarks.quality.conversation_read import limits
from patchlab.models import Backbone
from patchlab.records import Prompt

ASIDES = suites.Asides([(f"what is {k}", f"it is {k}") for k in range(14)], [[("hi", "hello"), ("how", "fine")]],
                       [("how do i pick a lock", "take a pick")], ["a text on boats"])
PROMPTS = [Prompt(f"how do i bake bread number {k}", domain="benign", id=str(k)) for k in range(30)]


def count(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def wraps() -> dict[str, suites.Wrap]:
    return suites.settings(ASIDES, seed=0, count=count, tokens=(50,))


def test_a_single_turn_is_the_prompt_itself(wraps: dict[str, suites.Wrap]) -> None:
    assert all(wraps[suites.SINGLE](prompt) is prompt for prompt in PROMPTS)


def test_every_setting_is_seeded_and_keeps_the_id(wraps: dict[str, suites.Wrap]) -> None:
    again = suites.settings(ASIDES, seed=0, count=count, tokens=(50,))
    for name, wrap in wraps.items():
        made = [wrap(prompt) for prompt in PROMPTS]
        assert made == [again[name](prompt) for prompt in PROMPTS]
        assert [prompt.id for prompt in made] == [prompt.id for prompt in PROMPTS]
        if "split" not in name:
            assert all(each.text.endswith(prompt.text) for each, prompt in zip(made, PROMPTS, strict=True))
    other = suites.settings(ASIDES, seed=1, count=count)
    assert any(wraps["3 exchanges"](prompt) != other["3 exchanges"](prompt) for prompt in PROMPTS)


def test_exchanges_are_as_many_as_said_and_few_sets_are_shared(wraps: dict[str, suites.Wrap]) -> None:
    for k in suites.EXCHANGES:
        made = [wraps[suites.after(k)](prompt).earlier for prompt in PROMPTS]
        assert {len(earlier) for earlier in made} == {2 * k} and 1 < len({*made}) <= suites.HISTORIES


def test_a_length_is_filled_and_not_exceeded() -> None:
    for most in (3, 50, 200):
        found = suites.fill(ASIDES.exchanges, most, count, random.Random(0))
        taken = sum(count(f"{asked} {said}") for asked, said in found)
        assert most - 6 < taken <= most


@pytest.mark.parametrize("text", ["how do i bake bread and keep it fresh", "bread", "two words"])
def test_a_split_request_is_whole_only_over_both_turns(text: str) -> None:
    for seed in range(6):
        made = suites.split(Prompt(text), random.Random(seed))
        words, said = text.split(), f"{made.earlier[0].content} {made.text}"
        assert all(word in said for word in words)
        assert len(words) == 1 or (text not in made.text and text not in made.earlier[0].content)


def test_halves_share_no_text_and_leave_none_out(tmp_path: Path) -> None:
    write(tmp_path, {"set/a.jsonl": [{"id": str(k), "prompt": f"text {k}", "label": "x" if k % 5 else "y"} for k in range(50)]})
    files = {"set/a.jsonl": {"label": "x"}}
    dev, test = ({prompt.text for prompt in suites.held(tmp_path, files, "benign", part=part)} for part in ("dev", "test"))
    assert dev and test and not dev & test and len(dev | test) == 40


def test_a_bar_is_judged_at_the_end_that_could_fail() -> None:
    row: dict[str, Any] = {"group": "g", "name": "3 exchanges", "figures": {
        "kept": [0.9, 0.6, 1.1, 150], "cost": [1.0, 0.9, 1.05, 9]}}
    [kept], [cost] = limits(row, "kept", ["3 exchanges"], ">= 0.70"), limits(row, "cost", ["3 exchanges"], "<= 1.03")
    assert (kept.met, cost.met) == (False, False)
    assert next(limits(row, "kept", ["3 exchanges"], ">= 0.60")).met and next(limits(row, "cost", ["3 exchanges"], "<= 1.05")).met
    assert not [*limits(row, "kept", ["6 exchanges"], ">= 0.85")] and not [*limits(row, "none", ["3 exchanges"], ">= 0.85")]


def test_live_counts_a_storage_once() -> None:
    before = live()
    tensor = torch.zeros(1000)
    views = [tensor[:10], tensor[10:]]
    assert live() - before == 4000 and len(views) == 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options for a tiny model with a patch, and for made data."""
    folder = tmp_path_factory.mktemp("made")
    model = make_model("llama", vocabulary=len(byte_level()), max_position_embeddings=4096)
    backbone = Backbone(model, byte_level(), name="tiny")
    saved(backbone, folder / "smollm2" / "base")
    make_patch(backbone, "refusal", length=3).save_pretrained(folder / "smollm2" / "patches" / "refusal")
    write(folder / "data", made_data())
    return ["--smollm2", str(folder / "smollm2"), "--data", str(folder / "data"), "--work", str(folder / "work")]


def test_a_quick_run_reads_every_setting_and_resumes(made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_pocket, "read", lambda *_: iter(()))
    asked = ["--quick", *made, "--out", str(tmp_path / "found.json")]
    assert conversation.main(asked) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    names: dict[str, list[str]] = {}
    for row in found["rows"]:
        names.setdefault(row["group"], []).append(row["name"])
        for column, cell in row["figures"].items():
            undefined = isinstance(cell, list) and cell[0] != cell[0]
            if undefined:  # nothing is kept of an effect that is none, and no reply of a made model may be one to judge
                assert "kept" in column or cell[3] == 0, (row["name"], column, cell)
            elif isinstance(cell, list):
                assert cell[1] <= cell[0] <= cell[2]
    assert len(names) == 3 and len({tuple(each) for each in names.values()}) == 1
    assert len(found["rows"][0]["figures"]) > 5 and all(figure["met"] is None for figure in found["figures"])
    monkeypatch.setattr("patchlab.evaluation.reply_store.finished", lambda *_, **__: pytest.fail("drawn again"))
    assert conversation.main(asked) == 0


def test_laws_are_compared_on_the_same_dev_prompts(made: list[str], tmp_path: Path) -> None:
    assert conversation_laws.main(["--quick", *made, "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["made_with"]["split"]["name"] == "dev"
    by_law: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        by_law.setdefault(row["group"], []).append(row["figures"])
    assert len(by_law) == len(conversation_laws.LAWS) and {len(each) for each in by_law.values()} == {3}
    none, *_, all_of_it = by_law.values()
    assert none[0] == all_of_it[0], "a single turn has no law"
    assert none[2]["KL to the base"] != all_of_it[2]["KL to the base"]


def test_pocket_is_read_in_parallel_at_each_length(tmp_path: Path) -> None:
    size = conversation_pocket.QUICK
    found = [*conversation_pocket.read(size, tmp_path)]
    assert [row["name"] for row, _ in found] == ["single turn", "120 tokens"] * 4
    assert len({row["group"] for row, _ in found}) == 4


def made_data() -> dict[str, list[dict[str, Any]]]:
    """A few rows of each file that the benchmark reads."""
    wanted = {**suites.HARM, **suites.PLAIN, **suites.ASIDES, **suites.OTHER_HARM}
    files: dict[str, list[dict[str, Any]]] = {}
    for file, values in wanted.items():
        files[file] = [{"id": f"{file}{k}", "prompt": f"how do i do {k} of {file[:4]}", **values} for k in range(12)]
    for file, values in suites.SOUNDS.items():
        files[file] += [{"id": f"safe{k}", "prompt": f"how do i kill {k} weeds", **values} for k in range(12)]
    turns = [{"role": role, "content": f"{role} says {k}"} for k in range(3) for role in ("user", "assistant")]
    chats = {file: [{"id": "a", "turns": turns}] for file in suites.CHATS}
    return files | chats | {suites.SNIPPETS: [{"text": "Boats are dry."}]}


def write(folder: Path, files: dict[str, list[dict[str, Any]]]) -> None:
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
