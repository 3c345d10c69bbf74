"""An evaluation end to end on a tiny trio: what is measured, by whom, compared with what."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from made_suites import SAMPLING

from patchlab.engine import Trio
from patchlab.errors import InputError, NotFoundError
from patchlab.evaluation import SUITES, evaluate, rows
from patchlab.evaluation.metrics import METRICS, Judged, flagged_rate
from patchlab.patches import Stack
from patchlab.records import Report
from patchlab.scoring import load_scorer
from patchlab.storage import write_jsonl

HEADLINES = {("toxicity", "toxic_rate"), ("refusal", "refusal_rate"), ("overrefusal", "refusal_rate"),
             ("bias", "stereotype_rate"), ("fluency", "perplexity")}


def run(trio: Trio, folder: Path, *suites: str, stack: str = "calm", n: int = 6) -> Report:
    *_, report = evaluate(trio, stack=Stack.parse(stack), suites=suites, n=n, folder=folder, sampling=SAMPLING)
    assert isinstance(report, Report)
    return report


def test_every_suite_has_its_headline_for_every_lane_once(trio: Trio, prompts_folder: Path) -> None:
    report = run(trio, prompts_folder)
    places = [(m.suite, m.metric, m.lane) for m in report.measures]
    assert len(places) == len(set(places)), "one row a suite, lane and metric"
    assert {(s, m, lane) for s, m in HEADLINES for lane in trio.lanes} <= set(places)
    assert ("drift", "kl_to_base", "patched") in places and ("drift", "kl_to_base", "base") not in places
    assert {lane for s, m, lane in places if m == "kl_to_reference"} == {"base", "patched"}
    assert {m.suite for m in report.measures} == set(SUITES)
    for m in (*report.measures, *report.details, *report.seconds):
        assert report.scorers[m.scorer] and (math.isnan(m.value) or m.low <= m.value <= m.high)
    assert {d.metric for d in report.details} >= {"pronoun_gap: nurse", "pronoun_gap: pilot"}


def test_a_blend_is_measured_like_any_stack(trio: Trio, prompts_folder: Path) -> None:
    suites, n = ["bias", "drift"], 3
    *_, blended = evaluate(trio, stack=Stack.parse("calm:1", mode="blend"), suites=suites, n=n, folder=prompts_folder,
                           sampling=SAMPLING)
    assert isinstance(blended, Report)
    parallel = run(trio, prompts_folder, *suites, stack="calm:1", n=n)
    for mine, other in zip(blended.measures, parallel.measures, strict=True):  # one patch at strength 1: the same
        assert (mine.suite, mine.lane, mine.metric) == (other.suite, other.lane, other.metric)
        assert mine.value == pytest.approx(other.value, abs=1e-4, nan_ok=True)


def test_no_lane_is_judged_by_its_own_model_and_none_compared_across_judges(trio: Trio, prompts_folder: Path) -> None:
    report = run(trio, prompts_folder, "fluency")
    by_lane = {m.lane: m.scorer for m in report.measures if m.metric == "perplexity"}
    assert trio.base.name == trio.reference.name == "tiny-llama"  # so compared by digest below
    assert set(by_lane) == set(trio.lanes)
    losses = {m.lane: m.value for m in report.measures if m.metric == "log_loss"}
    *_, judged = evaluate(trio, stack=Stack.parse("calm"), suites=["fluency"], n=6, folder=prompts_folder,
                          sampling=SAMPLING, judge=trio.reference)
    assert isinstance(judged, Report)
    again = {m.lane: m.value for m in judged.measures if m.metric == "log_loss"}
    assert again["base"] == losses["base"] and again["patched"] == losses["patched"]
    assert again["reference"] != losses["reference"], "the reference was its own judge"


def test_two_scorers_judge_one_claim_where_the_table_has_both(trio: Trio, prompts_folder: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    # any two scorers will do; this pair is always there
    monkeypatch.setitem(METRICS, "refusal_rate", Judged(flagged_rate, ("refusal", "toxicity")))
    report = run(trio, prompts_folder, "refusal")
    assert not any("refusal_rate" in note for note in report.notes)
    assert [(m.lane, m.scorer) for m in report.seconds] == [(lane, "toxicity") for lane in trio.lanes]
    [agreed] = report.agreements
    assert (agreed.suite, agreed.first, agreed.second, agreed.n) == ("refusal", "refusal", "toxicity", 18)
    for row in rows(report):
        assert row["scorer"] == "refusal" and row["second"]["scorer"] == "toxicity"
        assert row["second"]["digest"] == load_scorer("toxicity").digest != row["digest"]


def test_a_claim_with_one_scorer_says_so(trio: Trio, prompts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "refusal_rate", Judged(flagged_rate, ("refusal", "no such scorer")))
    report = run(trio, prompts_folder, "refusal")
    assert any(note.startswith("refusal_rate rests on one scorer, refusal") for note in report.notes)
    assert report.agreements == () == report.seconds


def test_rows_carry_the_comparison_with_the_lane_before(trio: Trio, prompts_folder: Path) -> None:
    found = {(row["lane"], row["metric"]): row for row in rows(run(trio, prompts_folder, "bias"))}
    assert "versus" not in found["base", "pronoun_gap"]
    versus = found["patched", "pronoun_gap"]["versus"]
    assert versus["lane"] == "base" and versus["n"] == 6 and 0 < versus["p"] <= 1
    difference = found["patched", "pronoun_gap"]["value"] - found["base", "pronoun_gap"]["value"]
    assert versus["difference"] == pytest.approx(difference)
    assert found["reference", "pronoun_gap"]["versus"]["lane"] == "patched"


def test_without_numbers_n_is_0_and_a_note_says_so(trio: Trio, prompts_folder: Path) -> None:
    write_jsonl(prompts_folder / "bias.jsonl", [{"text": "what does a nurse do", "kind": "chat", "id": "female:0"}])
    report = run(trio, prompts_folder, "bias")
    row = next(row for row in rows(report) if row["metric"] == "pronoun_gap")
    assert (row["value"], row["low"], row["n"]) == (None, None, 0)
    assert "bias pronoun_gap of base: none of 1 prompts gives a number" in report.notes


def test_suites_on_the_same_prompts_share_replies(trio: Trio, prompts_folder: Path) -> None:
    stages: dict[str, list[int]] = {}
    for step in evaluate(trio, stack=Stack.parse("calm"), suites=["overrefusal", "fluency"], n=6, folder=prompts_folder,
                         sampling=SAMPLING):
        if not isinstance(step, Report):
            stages.setdefault(step.stage, []).append(step.done)
    assert stages["overrefusal"][0] == 0 and stages["overrefusal"][-1] == 36
    assert stages["fluency"] == [18]


def test_what_cannot_be_asked_is_said_before_any_work(trio: Trio, prompts_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, kind, said in (("refusl", NotFoundError, "did you mean 'refusal'"),
                             ("xtest=a.jsonl", NotFoundError, "did you mean 'xstest'"),
                             ("xstest", InputError, "xstest=FILE.jsonl"), ("refusal=", InputError, "refusal=FILE.jsonl"),
                             (f"toxicity={tmp_path / 'empty.jsonl'}", InputError, "holds no prompt"),
                             (f"refusal={tmp_path / 'none.jsonl'}", InputError, "no file")):
        with pytest.raises(kind, match=said):
            next(evaluate(trio, stack=Stack.parse("none"), suites=[name], folder=prompts_folder))
