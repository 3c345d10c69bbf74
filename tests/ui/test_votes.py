"""Votes as laws: kept beside the batch, counted with intervals, and written as pairs that the project's own reader takes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from threading import Thread

import gradio as gr
import pytest
from made_page_batches import ended, judged, row, settings
from made_suites import WORDS, make_lab

from patchlab.errors import NotFoundError
from patchlab.evaluation.statistics import wilson
from patchlab.records import Message, Pair, Prompt
from patchlab.scoring.table import COARSE
from patchlab.training.preference_data import read_pairs
from patchlab.ui.batch import batch_export, batch_results, batch_tab, batch_table, batch_words, build
from patchlab.ui.batch.batch_store import Batches
from patchlab.ui.batch.batch_table import NEITHER, PromptRow, ballot
from patchlab.ui.batch.votes import VOTES_FILE, read_votes, voted

SCRIPT = "<script>alert(1)</script>"
LABELLED = "Human: may I?\n\nAssistant: you may"  # a text that a reader of pairs takes for a conversation


def asked(prompt: Prompt, vote: str, *, base: str = "no", patched: str = "yes") -> PromptRow:
    return PromptRow(prompt, tuple(judged(lane, prompt, text) for lane, text in (
        ("base", base), ("patched", patched), ("reference", "never a pair"))), vote)


def test_votes_are_kept_beside_the_batch_and_go_with_it(tmp_path: Path) -> None:
    batches, lab = Batches(tmp_path / "batches"), make_lab(tmp_path)
    prompts = [Prompt(words) for words in WORDS]
    key = batches.start(lab, settings(lab), prompts)
    ended(batches, key)
    assert batches.votes(key) == {}
    writers = [Thread(target=batches.vote, args=(key, ballot(prompt), "patched")) for prompt in prompts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    batches.vote(key, ballot(prompts[0]), NEITHER)
    again = Batches(batches.root)
    assert again.votes(key) == {ballot(each): NEITHER if each == prompts[0] else "patched" for each in prompts}
    folder = again.folder(key)
    assert [each.name for each in folder.glob("*votes*")] == [VOTES_FILE]
    again.remove(key)
    with pytest.raises(NotFoundError):
        again.vote(key, ballot(prompts[0]), "base")
    assert not folder.exists() and read_votes(folder) == {}


def test_rates_count_the_votes_of_each_lane_with_wilson_intervals() -> None:
    rows = [replace(row(text=f"number {k}"), vote=vote) for k, vote in enumerate(["patched"] * 3 + ["base", NEITHER, "", ""])]
    page = batch_table.rates_table(rows)
    for lane, count in (("Unpatched", 1), ("Patched", 3)):
        line = page.split(f'<th scope="row">{lane}</th>')[1].split("</tr>")[0].split(batch_words.VOTES_TITLE)[1]
        low, high = wilson(count, 5)
        assert f"{count / 5:.1%}" in line and f"{low:.1%} to {high:.1%}" in line and f"{count} of 5" in line
    assert batch_words.NOT_VOTED_ON in page and "5 votes of yours, 1 of them for neither reply" in page
    before = batch_table.rates_table([replace(each, vote="") for each in rows])
    assert before.count(batch_words.NO_VOTE) == 2 and "You have not voted yet" in before


def test_a_ballot_offers_each_reply_of_the_base_and_shows_the_vote() -> None:
    first, second = row(text=SCRIPT), row(text="other")
    page = batch_table.table(voted([first, second], {ballot(second.prompt): "patched"}), 0, "abc")
    assert page.count('type="radio"') == 6 and page.count(" checked") == 1 and "<script" not in page
    assert f'name="vote-abc-{ballot(second.prompt)}" data-ballot="{ballot(second.prompt)}" value="patched" checked' in page
    assert 'value="reference"' not in page and page.count("<legend>") == 2


def test_pairs_of_votes_are_what_train_reads(tmp_path: Path) -> None:
    talk = Prompt("and now?", system="be kind", earlier=(Message("user", "hello"), Message("assistant", "hi")))
    rows = [asked(Prompt("plain", domain="harmful"), "patched"), asked(Prompt("other"), "base"), asked(talk, "patched"),
            asked(Prompt("to go on", "continue"), "patched"), asked(Prompt("reply"), "patched", base=LABELLED),
            asked(Prompt("tie"), NEITHER), asked(Prompt("unvoted"), ""), asked(Prompt("same"), "base", patched="no"),
            asked(Prompt("silent"), "patched", base=" "), asked(Prompt("lost"), "base", base="")]
    path = tmp_path / "pairs.jsonl"
    path.write_text(batch_export.as_pairs(rows, COARSE), encoding="utf-8")
    notes: list[str] = []
    pairs, counts = read_pairs(str(path), domain="refusal", strict=True, notes=notes)
    assert [(pair.prompt.text, pair.prompt.kind, pair.chosen) for pair in pairs] == [
        ("plain", "chat", "yes"), ("other", "chat", "no"), ("and now?", "chat", "yes"), ("to go on", "continue", "yes"),
        ("reply", "chat", "yes")]
    assert pairs[0] == Pair(Prompt("plain", domain="harmful"), "yes", "no")
    assert (pairs[2].prompt.system, pairs[2].prompt.earlier) == (talk.system, talk.earlier)
    assert counts == {"kept": 5} and not notes


def test_a_prompt_that_looks_like_a_conversation_stays_one_message(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [asked(Prompt(LABELLED), "patched"), asked(Prompt(LABELLED, "continue"), "patched")]
    path.write_text(batch_export.as_pairs(rows, COARSE), encoding="utf-8")
    [pair], _ = read_pairs(str(path), domain="refusal", strict=True)
    assert pair.prompt.messages == (Message("user", LABELLED),) and pair.rejected == "no"


def test_no_pair_is_no_file_and_other_formats_hold_the_votes() -> None:
    rows = [asked(Prompt(f"{k}"), vote) for k, vote in enumerate(("patched", "base", NEITHER, ""))]
    assert batch_export.as_pairs(rows[2:], COARSE) == ""
    found = json.loads(batch_export.as_comparator(rows, COARSE))["examples"]
    assert [[rating["score"] for rating in each["individual_rater_scores"]] for each in found] == [[-1], [1], [0], []]
    assert [each["score"] for each in found] == [-1, 1, 0, 0]
    assert all({*rating} == {"score", "rating_label", "is_flipped", "rationale"} for each in found
               for rating in each["individual_rater_scores"])
    assert [json.loads(line).get("vote") for line in batch_export.as_jsonl(rows, COARSE).splitlines()] == [
        "patched", "base", NEITHER, None]
    table = list(csv.reader(io.StringIO(batch_export.as_csv(rows, COARSE))))
    assert [line[-1] for line in table] == ["vote", "patched", "base", NEITHER, ""]


def test_a_vote_is_checked_and_counted_and_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, lab = Batches(tmp_path / "batches"), make_lab(tmp_path)
    for module in (batch_tab, batch_results):
        monkeypatch.setattr(module, "BATCHES", batches)
    with gr.Blocks(analytics_enabled=False):
        tab = build(lab, [])
    key = batches.start(lab, settings(lab), [Prompt(words) for words in WORDS])
    ended(batches, key)
    o, name = tab.outputs, ballot(Prompt(WORDS[0]))

    def voting(data: object, kept: str = key) -> dict[object, object]:
        return tab.vote({o.key.kept: kept, o.key.started: ""}, gr.EventData(None, data))

    found = voting({"ballot": name, "choice": "patched"})
    assert set(found) == {o.rates, o.file} and "1 vote of yours" in str(found[o.rates])
    assert batches.votes(key) == {name: "patched"}
    for wrong in ({"ballot": name, "choice": "reference"}, {"ballot": "../x", "choice": "base"}, {"ballot": name}, None, [name]):
        assert 'role="alert"' in str(voting(wrong)[o.line])
    assert set(voting({"ballot": name, "choice": "base"}, kept="0" * 32)) == {o.line} and batches.votes(key) == {name: "patched"}


def test_a_late_answer_that_there_is_no_batch_leaves_an_error_where_it_is(tmp_path: Path) -> None:
    with gr.Blocks(analytics_enabled=False):
        tab = build(make_lab(tmp_path), [])
    assert tab.outputs.line not in tab.view("", "", 0, "all")
    assert batch_words.REMOVED in tab.view("0" * 32, "shown", 0, "all")[tab.outputs.line]
