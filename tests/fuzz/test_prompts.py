"""Prompts, suites and pairs: every row is used as it says or skipped and counted; no text is changed on the way."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from fuzzing import inputs, texts, values
from hypothesis import given
from hypothesis import strategies as st

from patchlab.errors import InputError, TrainingError
from patchlab.evaluation.suites import PUBLIC, load_prompts, read_prompts
from patchlab.records import Message, Pair, Prompt
from patchlab.rows import Rows
from patchlab.training.preference_data import read_pairs, stored_pairs, write_pairs

message = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": texts})
turns = st.one_of(st.lists(message, max_size=4), st.just([{"role": "user", "content": "a"}]))
kinds = st.sampled_from(["chat", "continue", "", None, "poem"])
own = st.fixed_dictionaries({}, optional={"text": st.one_of(texts, values), "prompt": st.one_of(texts, turns), "messages": turns,
                                          "kind": kinds, "domain": st.one_of(texts, values), "id": st.one_of(texts, values)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@inputs(0.4)
@given(own)
def test_a_prompt_is_what_its_row_says(folder: Path, row: dict[str, Any]) -> None:
    rows = Rows(write(folder / "p.jsonl", [row, {"text": "fine"}]), notes=[])
    *first, last = read_prompts(rows)
    assert last == Prompt("fine") and len(first) + rows.skipped == 1
    if not first:
        return
    said = row.get("messages") or (row["prompt"] if row.get("text") is None and isinstance(row.get("prompt"), list) else None)
    found = first[0]
    if said:
        assert [{"role": each.role, "content": each.content} for each in found.messages] == said
    else:
        assert found.text == (row["text"] if row.get("text") is not None else row["prompt"]) and not found.earlier
    assert found.kind == (row.get("kind") or "chat") and found.domain == (row.get("domain") or "")
    assert found.id == ("" if row.get("id") is None else str(row["id"]))


columns = ["prompt", "Goal", "target", "Behavior", "FunctionalCategory", "ContextString", "forbidden_prompt", "sentence",
           "sentid", "gender", "category", "prompts", "label", "type", "note", "focus", "harm_area", "is_safe", "challenging",
           "id", "occupation", "answer", "pronoun_gender", "bls_pct_female", "bucket"]
likely = st.sampled_from(["safe", "unsafe", "standard", "copyright", "nurse.visitor.0.male.txt", "A nurse said that he left.",
                          "nurse", "male", "occupation", "40.5", 60, "American_actors", ["He is ", "She "],
                          {"text": "It rained"}])


@inputs(0.4)
@given(st.sampled_from(sorted(PUBLIC)), st.lists(st.dictionaries(st.sampled_from(columns), st.one_of(likely, texts, values),
                                                                 min_size=1, max_size=6), max_size=2))
def test_no_text_of_a_public_set_is_changed(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = write(folder / "s.jsonl", [*rows, {"other": 1}])
    held = {" ".join(text.split()) for row in rows for value in row.values() for text in strings(value)}
    for strict in (False, True):
        with contextlib.suppress(InputError):
            for prompt in load_prompts(f"{name}={path}", n=9, notes=[], strict=strict):
                assert not strict, "the last row is none"
                pieces = [" ".join(piece.split()) for piece in prompt.text.split("\n\n---\n\n")]
                assert all(any(piece in text for text in held) for piece in pieces)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in strings(each)]


pairs = st.fixed_dictionaries({}, optional={
    "prompt": st.one_of(texts, turns, values), "chosen": st.one_of(texts, turns, values), "rejected": st.one_of(texts, turns),
    "kind": kinds, "domain": st.one_of(texts, values), "system": st.one_of(texts, values), "messages": turns,
    "history": st.one_of(values, st.just([["a", "b"]]))})


@inputs(0.4)
@given(pairs)
def test_a_pair_is_what_its_row_says(folder: Path, row: dict[str, Any]) -> None:
    write(folder / "a.jsonl", [row, {"prompt": "so", "chosen": "fine", "rejected": "fool"}])
    found, counts = read_pairs(str(folder / "a.jsonl"), domain="refusal", notes=[])
    assert sum(counts.values()) == 2 and found[-1].chosen == "fine"
    if len(found) == 2:
        for name in ("chosen", "rejected"):
            value = row[name] if isinstance(row[name], str) else row[name][-1]["content"]
            assert getattr(found[0], name) == value.strip()
        prompt = found[0].prompt
        asked = row.get("prompt") or row.get("messages") or (row["chosen"][:-1] if isinstance(row["chosen"], list) else None)
        if isinstance(asked, list):
            said = [{"role": each.role, "content": each.content} for each in prompt.messages]
            assert all(turn in said or turn == row["messages"][-1] for turn in asked)
        elif asked is not None:
            assert prompt.text.strip() == asked.strip()
        assert prompt.system.strip() == row["system"].strip() if row.get("system") else True
        assert [message.content for message in prompt.earlier[:2]] == ["a", "b"] if row.get("history") == [["a", "b"]] else True
    with contextlib.suppress(InputError, TrainingError):
        read_pairs(str(folder / "a.jsonl"), domain="toxicity", strict=True)


filled = texts.filter(lambda text: text.strip())
stored = st.builds(lambda text, system, earlier, kind, domain, chosen, rejected, score: Pair(
    Prompt(text, kind, domain, "i", system, (Message("user", earlier), Message("assistant", earlier)) if kind == "chat" else ()),
    chosen, rejected, score, 1.0, True, False), filled, st.one_of(st.just(""), filled), filled,
    st.sampled_from(["chat", "continue"]), texts, texts, texts, st.floats(0, 1))


@inputs(0.4)
@given(st.lists(stored, max_size=2))
def test_stored_pairs_come_back(folder: Path, given_pairs: list[Pair]) -> None:
    write_pairs(folder / "w.jsonl", given_pairs)
    assert stored_pairs(folder / "w.jsonl") == given_pairs
