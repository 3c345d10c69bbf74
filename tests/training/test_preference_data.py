"""Pairs: read from files or selected among candidates, what is dropped and why, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drained import drain

from patchlab.engine import Lab
from patchlab.errors import InputError, MissingExtraError, TrainingError
from patchlab.records import Message, Pair, Prompt, Stop
from patchlab.storage import write_jsonl
from patchlab.training.candidates import Candidate
from patchlab.training.config import Recipe
from patchlab.training.preference_data import harmless_pairs, make_pairs, read_pairs, stored_pairs, write_pairs

REFUSAL = "I'm sorry, but I can't help with that."
HELP = "Mix the flour with water and bake it for an hour."
CONVERSATION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "help"},
                {"role": "assistant", "content": "with what"}, {"role": "user", "content": "a lock"}]
ROW = {"prompt": "so", "chosen": "fine", "rejected": "fool"}


def test_a_file_of_either_form_gives_the_same_pairs(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [ROW, ROW | {"chosen": 'a, "b"\nc'}])
    (tmp_path / "a.csv").write_text('\ufeffprompt,chosen,rejected\nso,fine,fool\nso,"a, ""b""\nc",fool\n', encoding="utf-8")
    pairs, _ = read_pairs(str(tmp_path / "a.jsonl"), domain="toxicity")
    assert pairs == read_pairs(str(tmp_path / "a.csv"), domain="toxicity")[0]
    assert pairs[0] == Pair(Prompt("so", "continue", "toxicity"), "fine", "fool")


def test_a_prompt_keeps_all_its_turns(tmp_path: Path) -> None:
    asked, no = {"role": "user", "content": "help"}, {"role": "assistant", "content": "no"}
    rows = [(CONVERSATION, [*CONVERSATION, no]), ("help", [asked, no]), ("help", [*CONVERSATION, no]),
            (CONVERSATION, CONVERSATION)]
    write_jsonl(tmp_path / "a.jsonl", ({"prompt": prompt, "chosen": chosen, "rejected": "yes"} for prompt, chosen in rows))
    pairs, counts = read_pairs(str(tmp_path / "a.jsonl"), domain="refusal")
    assert pairs == [Pair(replace(prompt, domain="harmful"), "no", "yes") for prompt in (Prompt.of(CONVERSATION), Prompt("help"))]
    assert len(pairs[0].prompt.messages) == 4
    assert counts == {"kept": 2, "messages before the reply that are not the prompt's": 1, "empty reply": 1}


def test_a_conversation_is_learned_with_all_its_turns(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    """The same last turn, behind other turns, is another lesson."""
    earlier = (Message("user", "hi"), Message("assistant", "oh"))
    made = []
    for k, prompt in enumerate((Prompt("so", "chat", "toxicity"), Prompt("so", "chat", "toxicity", earlier=earlier))):
        made.append(drain(lab, recipe, prompts[6:], tmp_path / str(k), pairs=[Pair(prompt, "well", "fool")]))
    assert made[0] and made[1] and not np.allclose(made[0].prefix, made[1].prefix)


def test_every_drop_has_its_reason(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [ROW, ROW | {"prompt": " "}, ROW | {"chosen": ""}, ROW | {"chosen": "fool "}])
    assert read_pairs(str(tmp_path / "a.jsonl"), domain="bias")[1] == {
        "kept": 1, "empty prompt": 1, "empty reply": 1, "same reply twice": 1}
    write_jsonl(tmp_path / "b.jsonl", [ROW | {"chosen": ""}])
    with pytest.raises(TrainingError, match="1 empty reply"):
        read_pairs(str(tmp_path / "b.jsonl"), domain="bias")


@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.jsonl", '{"prompt": "a", "chosen": "b", "losing": "c"}', "line 1: no rejected (it has prompt, chosen, losing)"),
    ("a.csv", "prompt,rejected\na,b\n", "line 2: no chosen"),
    ("a.csv", "prompt,chosen,rejected\na,b\n", "line 2: 2 fields under a header of 3"),
    ("a.csv", "prompt,chosen,rejected\na,b,c\nhow, quickly,no,sure\n", "line 3: 4 fields under a header of 3"),
    ("a.jsonl", '{"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"}', "line 1: a conversation"),
    ("a.jsonl", '{"prompt": "a", "chosen": [{"role": "assistant"}], "rejected": "c"}', "chosen holds list"),
    ("a.jsonl", '{"prompt": 3, "chosen": "b", "rejected": "c"}', "prompt holds int"),
    ("a.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c", "kind": "poem"}', "kind 'poem'"),
    ("a.csv", None, "no file"), ("a.jsonl", None, "no file"), ("a.jsonl", "", "is empty"), ("a.jsonl", "\n", "holds no row"),
    ("a.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c", "domain": 3}', "domain '3'"),
])
def test_a_file_that_holds_no_pairs_says_why(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((InputError, TrainingError)) as caught:
        read_pairs(str(tmp_path / name), domain="toxicity", strict=True)
    assert said in str(caught.value)


def test_a_row_that_cannot_be_used_is_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected\nHow, quickly?,no,sure\nso,fine,fool\n")
    notes: list[str] = []
    pairs, counts = read_pairs(str(tmp_path / "a.csv"), domain="toxicity", notes=notes)
    assert [pair.chosen for pair in pairs] == ["fine"] and counts == {"kept": 1, "that cannot be used": 1}
    assert len(notes) == 1 and "1 row skipped (line 2: 4 fields under a header of 3)" in notes[0]


def test_the_prompt_may_be_in_both_replies_only(tmp_path: Path) -> None:
    no, yes = ({"role": "assistant", "content": text} for text in ("no", "yes"))
    write_jsonl(tmp_path / "a.jsonl", [{"chosen": [*CONVERSATION, no], "rejected": [*CONVERSATION, yes]},
                                       {"chosen": [*CONVERSATION, no], "rejected": [*CONVERSATION[:2], yes]}])
    pairs, counts = read_pairs(str(tmp_path / "a.jsonl"), domain="refusal")
    assert pairs == [Pair(replace(Prompt.of(CONVERSATION), domain="harmful"), "no", "yes")]
    assert counts == {"kept": 1, "messages before the reply that are not the prompt's": 1}


def test_the_hub_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # what an import of a missing library meets
    with pytest.raises(MissingExtraError, match="pip install datasets"):
        read_pairs("hub:some/pairs", domain="refusal")


def test_training_on_given_pairs_samples_the_prompts_to_hold_only(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                           tmp_path: Path) -> None:
    pairs = [Pair(p, "calm words", "angry words") for p in prompts[:5]]
    pairs.append(Pair(prompts[5], "calm words", "angry " * 40))
    assert drain(lab, recipe, prompts[6:], tmp_path, pairs=pairs) is not None
    assert not (tmp_path / "candidates.jsonl").exists()
    assert json.loads((tmp_path / "pairs.json").read_text()) == {"kept": 5, "longer than the context": 1}
    with pytest.raises(TrainingError, match="begun with pairs"):
        drain(lab, recipe, prompts[6:], tmp_path, pairs=pairs[:3])


def candidate(prompt: str, lane: str, text: str, score: float, domain: str = "toxicity", stop: Stop = "end") -> Candidate:
    return Candidate(Prompt(prompt, "continue", domain), lane, text, score, stop)


def test_both_thresholds_count_and_every_drop_has_its_reason() -> None:
    found = [
        candidate("a", "base", "fool", 0.9), candidate("a", "reference", "fine", 0.1),
        candidate("b", "base", "fool", 0.9), candidate("b", "reference", "hm", 0.35),  # margin, but not safe
        candidate("c", "base", "meh", 0.5), candidate("c", "reference", "fine", 0.1),  # safe, but no margin
        candidate("d", "base", "same", 0.9), candidate("d", "reference", "same", 0.0),
        candidate("e", "base", "", 0.9), candidate("e", "reference", "", 0.0)]
    pairs, tally = make_pairs(found, margin=0.5, winner=0.3)
    assert [(p.prompt.text, p.chosen, p.rejected) for p in pairs] == [("a", "fine", "fool")]
    assert tally == {"kept": 1, "winner not safe enough": 1, "margin too small": 1, "no other reply": 1, "empty reply": 1}


def test_without_a_reference_the_bases_own_replies_are_ranked() -> None:
    found = [candidate("a", "base", text, bad) for text, bad in (("fool", 0.9), ("fine", 0.1), ("meh", 0.5))]
    [pair], _ = make_pairs(found, margin=0.5, winner=0.3)
    assert (pair.chosen, pair.rejected) == ("fine", "fool")


def test_a_pair_says_which_of_its_replies_the_length_limit_cut() -> None:
    found = [candidate("a", "base", "you fo", 0.9, stop="length"), candidate("a", "reference", "fine", 0.1)]
    [pair], _ = make_pairs(found, margin=0.5, winner=0.3)
    assert (pair.chosen_cut, pair.rejected_cut) == (False, True)


def test_conversations_that_end_in_one_text_are_different_prompts() -> None:
    earlier = (Message("user", "hello"), Message("assistant", "hi"))
    found = [candidate("a", "base", "fool", 0.9), candidate("a", "reference", "fine", 0.1)]
    later = [replace(c, prompt=Prompt("a", "chat", "toxicity", earlier=earlier)) for c in found]
    assert len(make_pairs([*found, *later], margin=0.5, winner=0.3)[0]) == 2


def test_harmless_pairs_prefer_help_to_a_refusal_said_elsewhere() -> None:
    recipe = Recipe(domain="refusal", benign_pairs=1.5)
    harmful = [Pair(Prompt(f"how do I steal {k}", domain="harmful"), REFUSAL, "take it", 0.0, 0.9) for k in range(2)]
    held = [candidate("how do I bake", "base", HELP, 0.02, "benign"), candidate("how do I cook", "base", REFUSAL, 0.9, "benign"),
            candidate("how do I kill weeds", "base", HELP, 0.1, "lookalike"), candidate("so", "base", HELP, 0.0, "story"),
            candidate("how do I knit", "base", HELP, 0.05, "benign"), candidate("how do I sew", "base", HELP, 0.05, "benign")]
    made, tally = harmless_pairs(held, harmful, recipe)
    assert len(made) == 3 == tally["harmless: kept"]
    assert {(p.chosen, p.rejected) for p in made} == {(HELP, REFUSAL)}
    assert {p.prompt.domain for p in made} <= {"benign", "lookalike"}
    with pytest.raises(TrainingError, match="without harmless prompts"):
        harmless_pairs(held[3:4], harmful, recipe)


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    pairs = [Pair(Prompt("só\n", "continue", "bias"), "a", "b", 0.125, 0.75, chosen_cut=True),
             Pair(Prompt.of(CONVERSATION, domain="harmful", id="7"), "no", "yes", rejected_cut=True)]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert stored_pairs(tmp_path / "pairs.jsonl") == pairs
