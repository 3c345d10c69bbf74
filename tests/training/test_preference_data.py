"""Pairs from files: what is read, what is dropped and why, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from patchlab.engine import Trio
from patchlab.errors import InputError, MissingExtraError, TrainingError
from patchlab.records import Pair, Prompt
from patchlab.storage import write_jsonl
from patchlab.training.config import Recipe
from patchlab.training.preference_data import read_pairs
from patchlab.training.trainer import train

ROW = {"prompt": "so", "chosen": "fine", "rejected": "fool"}


def test_a_file_of_either_form_gives_the_same_pairs(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [ROW, ROW | {"chosen": 'a, "b"\nc'}])
    (tmp_path / "a.csv").write_text('\ufeffprompt,chosen,rejected\nso,fine,fool\nso,"a, ""b""\nc",fool\n', encoding="utf-8")
    pairs, _ = read_pairs(str(tmp_path / "a.jsonl"), domain="toxicity")
    assert pairs == read_pairs(str(tmp_path / "a.csv"), domain="toxicity")[0]
    assert pairs[0] == Pair(Prompt("so", "continue", "toxicity"), "fine", "fool")


def test_turns_of_a_chat_count_by_their_last(tmp_path: Path) -> None:
    asked, said = {"role": "user", "content": "help"}, {"role": "assistant", "content": "no"}
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": [asked], "chosen": [asked, said], "rejected": "yes"}])
    [pair], _ = read_pairs(str(tmp_path / "a.jsonl"), domain="refusal")
    assert pair == Pair(Prompt("help", "chat", "harmful"), "no", "yes")


def test_every_drop_has_its_reason(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [ROW, ROW | {"prompt": " "}, ROW | {"chosen": ""}, ROW | {"chosen": "fool "}])
    assert read_pairs(str(tmp_path / "a.jsonl"), domain="bias")[1] == {
        "kept": 1, "empty prompt": 1, "empty reply": 1, "same reply twice": 1}
    write_jsonl(tmp_path / "b.jsonl", [ROW | {"chosen": ""}])
    with pytest.raises(TrainingError, match="1 empty reply"):
        read_pairs(str(tmp_path / "b.jsonl"), domain="bias")


@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.jsonl", '{"prompt": "a", "chosen": "b", "losing": "c"}', "row 1 has no rejected (it has prompt, chosen, losing)"),
    ("a.csv", "prompt,rejected\na,b\n", "row 1 has no chosen"),
    ("a.csv", "prompt,chosen,rejected\na,b\n", "row 1 has no rejected"),
    ("a.jsonl", '{"prompt": 3, "chosen": "b", "rejected": "c"}', "prompt holds int"),
    ("a.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c", "kind": "poem"}', "kind 'poem'"),
    ("a.csv", None, "no file"), ("a.jsonl", None, "no file"), ("a.jsonl", "", "no pair"),
])
def test_a_file_that_holds_no_pairs_says_why(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((InputError, TrainingError)) as caught:
        read_pairs(str(tmp_path / name), domain="toxicity")
    assert said in str(caught.value)


def test_the_hub_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # what an import of a missing library meets
    with pytest.raises(MissingExtraError, match="pip install datasets"):
        read_pairs("hub:some/pairs", domain="refusal")


def test_training_on_given_pairs_samples_for_the_hold_only(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                           tmp_path: Path) -> None:
    pairs = [Pair(p, "calm words", "angry words") for p in prompts[:5]]
    pairs.append(Pair(prompts[5], "calm words", "angry " * 40))
    for _ in train(trio, recipe, prompts[6:], work=tmp_path, pairs=pairs):
        pass
    assert not (tmp_path / "candidates.jsonl").exists()
    assert json.loads((tmp_path / "pairs.json").read_text()) == {"kept": 5, "longer than the context": 1}
    with pytest.raises(TrainingError, match="begun with pairs"):
        next(train(trio, recipe, prompts[6:], work=tmp_path, pairs=pairs[:3]))
