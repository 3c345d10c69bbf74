"""The public benchmark asks each system what it is for, and the worse of two judges counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("peft")  # whose version is part of what a results file was made with

from benchmarks.quality.public import TOGETHER, UNGATED, asking
from benchmarks.quality.public_page import SHOWN, write_page
from benchmarks.quality.public_read import System, Table, judged, judges, more, worst
from benchmarks.quality.public_suites import HARMLESS, Source, asked, pronoun_places
from patchlab.records import Prompt, Reply


def test_the_worse_judge_is_the_one_nearer_to_missing() -> None:
    first, second = ((0.5, 0.4, 0.6), 9), ((0.45, 0.35, 0.7), 9)
    assert worst([first, second], ">= 0.3") == second == worst([first, second], "<= 0.8")
    assert judged("rate", [first, second], ">= 0.38").met is False and judged("rate", [first], ">= 0.38").met is True
    assert judged("rate", [first, second]).met is None and judged("rate", [first, second]).value == 0.5


def test_a_patch_is_asked_its_own_suites_and_all_together_every_one() -> None:
    names = ["base", "instruction", "reference", "refusal", f"refusal{UNGATED}", "bias", TOGETHER]
    columns = {name: System(name) for name in names}
    assert asking("refusal", columns) == ["base", "instruction", "reference", "refusal", f"refusal{UNGATED}", TOGETHER]
    assert "refusal" not in asking("bias", columns)


def test_an_instruction_stands_before_chats_and_texts_and_keeps_the_request() -> None:
    system = System("instruction", instruction="Be kind.")
    chat, text = system.prompts([Prompt("hi"), Prompt("the sea", "continue")])
    assert (chat.text, chat.system) == ("hi", "Be kind.") and text.text == "Be kind.\n\nthe sea"
    assert System("base").prompts([Prompt("hi")]) == [Prompt("hi")]


def test_prompts_are_seeded_filtered_and_cut_before_the_pronoun(tmp_path: Path) -> None:
    (tmp_path / "winogender").mkdir()
    rows = [{"occupation": "cook", "participant": "guest", "template": template} for template in (
        "The $OCCUPATION told the $PARTICIPANT that $NOM_PRONOUN ate.", "The $OCCUPATION took $POSS_PRONOUN hat.")]
    (tmp_path / "winogender/templates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [prompt.text for prompt in pronoun_places(tmp_path)["cook"]] == ["The cook told the guest that"]
    made = [{"id": k, "prompt": f"how {k}", "label": "safe" if k % 2 else "unsafe"} for k in range(20)]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    sources = {"safe": Source("made.jsonl", "benign", take=HARMLESS["XSTest safe"].take)}
    found = asked(tmp_path, sources, 5)["safe"]
    assert found == asked(tmp_path, sources, 5)["safe"] and len(found) == 5 and all(int(prompt.id) % 2 for prompt in found)


def test_the_page_of_replies_escapes_them_and_does_not_choose_by_them(tmp_path: Path) -> None:
    def written(said: str, name: str) -> str:
        replies = {(who, "suite"): [Reply(who, k, Prompt(f"how <b>{k}</b>"), 0, said, 1, "end") for k in range(SHOWN + 20)]
                   for who in ("base", "refusal")}
        write_page(tmp_path / name, replies)
        return (tmp_path / name).read_text(encoding="utf-8")

    one, other = written("<script>", "one.html"), written("no", "other.html")
    assert "<script>" not in one and "how &lt;b&gt;" in one and one.count("<h2>") == SHOWN
    assert one.replace("&lt;script&gt;", "no") == other


def test_a_rise_is_read_prompt_by_prompt_for_both_judges() -> None:
    names = judges("refusal_rate")
    table = Table({(who, "suite", "refused", judge): values for judge in names
                   for who, values in (("base", [0.0, 0.0, 1.0, 0.0]), ("refusal", [1.0, 0.0, 1.0, 0.0]))})
    assert [found[0][0] for found in more(table, "refusal", ["suite"], "refused", "refusal_rate")] == [0.25, 0.25]
