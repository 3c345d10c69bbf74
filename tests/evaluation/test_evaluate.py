"""An evaluation end to end on a tiny base: what is measured, by whom, compared with what."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import make_patch
from made_suites import SAMPLING, WORDS

from patchlab.engine import Lab
from patchlab.errors import InputError, NotFoundError
from patchlab.evaluation import SUITES, evaluate, rows
from patchlab.evaluation.metrics import OF_EVERY_REPLY
from patchlab.patches import Gate, Patch, Stack
from patchlab.records import Prompt, Report
from patchlab.scoring import JudgeSet, load_scorer
from patchlab.storage import write_jsonl

HEADLINES = {("toxicity", "toxic_rate"), ("refusal", "refusal_rate"), ("overrefusal", "refusal_rate"),
             ("bias", "stereotype_rate"), ("fluency", "perplexity")}


def run(lab: Lab, folder: Path, *suites: str, stack: str = "calm", n: int = 6) -> Report:
    *_, report = evaluate(lab, stack=Stack.parse(stack), suites=suites, n=n, folder=folder, sampling=SAMPLING)
    assert isinstance(report, Report)
    return report


def test_every_suite_has_its_headline_for_every_lane_once(lab: Lab, prompts_folder: Path) -> None:
    report = run(lab, prompts_folder)
    places = [(m.suite, m.metric, m.lane) for m in report.measures]
    assert len(places) == len(set(places)), "one row a suite, lane and metric"
    assert {(s, m, lane) for s, m in HEADLINES for lane in lab.lane_names} <= set(places)
    assert ("drift", "kl_to_base", "patched") in places and ("drift", "kl_to_base", "base") not in places
    assert {lane for s, m, lane in places if m == "kl_to_reference"} == {"base", "patched"}
    assert {m.suite for m in report.measures} == set(SUITES)
    for m in (*report.measures, *report.details, *report.seconds):
        assert report.scorers[m.scorer] and (math.isnan(m.value) or m.low <= m.value <= m.high)
    assert {d.metric for d in report.details} >= {"pronoun_gap: nurse", "pronoun_gap: pilot"}


def test_a_blend_is_measured_like_any_stack(lab: Lab, prompts_folder: Path) -> None:
    suites, n = ["bias", "drift"], 3
    *_, blended = evaluate(lab, stack=Stack.parse("calm:1", mode="blend"), suites=suites, n=n, folder=prompts_folder,
                           sampling=SAMPLING)
    assert isinstance(blended, Report)
    parallel = run(lab, prompts_folder, *suites, stack="calm:1", n=n)
    for mine, other in zip(blended.measures, parallel.measures, strict=True):  # one patch at strength 1: the same
        assert (mine.suite, mine.lane, mine.metric) == (other.suite, other.lane, other.metric)
        assert mine.value == pytest.approx(other.value, abs=1e-4, nan_ok=True)


def test_no_lane_is_judged_by_its_own_model_and_none_compared_across_judges(lab: Lab, prompts_folder: Path) -> None:
    report = run(lab, prompts_folder, "fluency")
    by_lane = {m.lane: m.scorer for m in report.measures if m.metric == "log_loss"}
    assert lab.reference and lab.base.name == lab.reference.name == "tiny-llama"  # so told apart by digits
    base, reference = (model.identity.fingerprint for model in (lab.base, lab.reference))
    wanted = dict.fromkeys(("base", "patched"), f"tiny-llama {reference[3:11]}")
    assert by_lane == wanted | {"reference": f"tiny-llama {base[3:11]}"}
    assert {report.scorers[scorer] for scorer in by_lane.values()} == {base, reference}
    assert [(c.first, c.second) for c in report.comparisons if c.metric == "log_loss"] == [("base", "patched")]
    losses = {m.lane: m.value for m in report.measures if m.metric == "log_loss"}
    *_, judged = evaluate(lab, stack=Stack.parse("calm"), suites=["fluency"], n=6, folder=prompts_folder,
                          sampling=SAMPLING, judge=lab.reference)
    assert isinstance(judged, Report)
    again = {m.lane: m.value for m in judged.measures if m.metric == "log_loss"}
    assert again["base"] == losses["base"] and again["patched"] == losses["patched"]
    assert again["reference"] != losses["reference"], "the reference was its own judge"
    assert {m.scorer for m in judged.measures if (m.metric, m.lane) == ("log_loss", "reference")} == {
        f"tiny-llama {reference[3:11]} on its own replies"}


def test_without_a_reference_what_it_would_judge_is_left_out_and_said(lab: Lab, prompts_folder: Path) -> None:
    alone = Lab(lab.base, registry=lab.registry)
    report, beside = run(alone, prompts_folder), run(lab, prompts_folder)
    assert report.made_with["lanes"] == "base, patched" and report.made_with["reference"] == report.made_with["judge"] == "none"
    assert [note.split(" is not measured: ")[0] for note in report.notes if "not measured" in note] == [
        "log_loss", "kl_to_reference", "helpful_rate"]
    judged = ("log_loss", "perplexity", "kl_to_reference", "helpful_rate")
    wanted = [m for m in beside.measures if m.lane != "reference" and m.metric not in judged]
    assert [(m.suite, m.metric, m.lane) for m in report.measures] == [(m.suite, m.metric, m.lane) for m in wanted]
    assert [m.value for m in report.measures] == pytest.approx([m.value for m in wanted], nan_ok=True)
    *_, given = evaluate(alone, stack=Stack.parse("calm"), suites=["fluency", "helpfulness"], n=6, folder=prompts_folder,
                         sampling=SAMPLING, judge=lab.reference)
    assert isinstance(given, Report) and not any("not measured" in note for note in given.notes)
    assert {(m.metric, m.lane, m.value) for m in given.measures} == {
        (m.metric, m.lane, m.value) for m in beside.measures if m.suite in ("fluency", "helpfulness") and m.lane != "reference"}


def test_the_share_of_cut_replies_is_reported_for_every_lane_once(lab: Lab, prompts_folder: Path) -> None:
    report = run(lab, prompts_folder, "overrefusal", "drift")
    cut = [m for m in report.measures if m.metric.startswith("cut_rate")]
    assert [(m.suite, m.lane, m.metric, m.n) for m in cut] == [("overrefusal", lane, "cut_rate", 12) for lane in lab.lane_names]
    said = {lane: [r.stop for r in lab.replies([Prompt(f"{words} {name}", domain=name) for name in ("benign", "lookalike")
                                                for words in WORDS], stack="calm", lanes=[lane], sampling=SAMPLING)]
            for lane in lab.lane_names}
    assert [m.value for m in cut] == pytest.approx([said[m.lane].count("length") / 12 for m in cut])
    assert report.made_with["dtype"] == "float32" and report.made_with["threads"] == str(torch.get_num_threads())
    assert (report.made_with["torch"], report.made_with["bits"]) == (torch.__version__, "as they are")


def test_conversations_are_told_apart_by_all_their_messages(lab: Lab, prompts_folder: Path) -> None:
    def turns(first: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": first}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "go"}]

    write_jsonl(prompts_folder / "harmful.jsonl", [{"messages": turns("one")}, {"messages": turns("two")}, {"text": "go"}])
    report = run(lab, prompts_folder, "refusal")
    assert {m.metric for m in report.measures} == {"refusal_rate", *OF_EVERY_REPLY}
    assert {m.n for m in report.measures if m.metric in OF_EVERY_REPLY} == {3}
    # replies without an answer, or in no language the judge knows, count in the rates above alone
    lost = {m.lane: round(3 * sum(each.value for each in report.measures
                                  if each.lane == m.lane and each.metric in ("empty_rate", "unjudged_rate")))
            for m in report.measures}
    assert all(m.n == 3 - lost[m.lane] for m in report.measures if m.metric == "refusal_rate")
    assert len({reply.prompt.key for reply in report.replies}) == 3 and len(report.replies) == 9


def test_a_patch_installed_meanwhile_is_not_measured_half_and_half(lab: Lab, prompts_folder: Path) -> None:
    suites = ["toxicity", "refusal"]
    whole = run(lab, prompts_folder, *suites)
    steps = evaluate(lab, stack=Stack.parse("calm"), suites=suites, n=6, folder=prompts_folder, sampling=SAMPLING)
    next(steps)
    made = make_patch(lab.base, "calm", length=3, seed=9)
    newer = Patch(replace(made.manifest, version="1.1.0"), made.prefix)
    newer.save_pretrained(lab.registry.folders[0] / newer.manifest.folder_name)
    *_, report = steps
    assert isinstance(report, Report) and report.replies == whole.replies
    assert lab.planner.patch("calm").manifest.version == "1.1.0"


def test_a_patch_that_its_gate_leaves_off_measures_as_the_base(lab: Lab, prompts_folder: Path) -> None:
    made = make_patch(lab.base, "calm", length=3)
    never = Gate(0, np.zeros(lab.base.width, np.float32), -1.0)
    replace(made, gate=never).save_pretrained(lab.registry.folders[0] / made.manifest.folder_name)
    *_, report = evaluate(lab, stack=Stack.parse("calm", gates=True), suites=["bias", "drift"], n=6, folder=prompts_folder,
                          sampling=SAMPLING)
    assert isinstance(report, Report) and report.made_with["gates"] == f"calm {never.digest[:12]}"
    values = {(m.metric, m.lane): m.value for m in report.measures}
    assert values["kl_to_base", "patched"] == 0.0 and values["pronoun_gap", "patched"] == values["pronoun_gap", "base"]


def test_two_scorers_judge_one_claim_where_the_table_has_both(lab: Lab, prompts_folder: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    # any two scorers will do; this pair is always there
    monkeypatch.setattr(Lab, "judges", JudgeSet("coarse", ("toxicity", "toxicity-2"), ("refusal", "toxicity"), ""))
    report = run(lab, prompts_folder, "refusal")
    assert not any("refusal_rate" in note for note in report.notes)
    assert [(m.lane, m.scorer) for m in report.seconds] == [(lane, "toxicity") for lane in lab.lane_names]
    [agreed] = report.agreements
    assert (agreed.suite, agreed.first, agreed.second, agreed.n) == ("refusal", "refusal", "toxicity", 18)
    for row in rows(report):
        if row["metric"] in OF_EVERY_REPLY:
            continue
        assert row["scorer"] == "refusal" and row["second"]["scorer"] == "toxicity"
        assert row["second"]["digest"] == load_scorer("toxicity").digest != row["digest"]


def test_rows_carry_the_comparison_with_the_lane_before(lab: Lab, prompts_folder: Path) -> None:
    found = {(row["lane"], row["metric"]): row for row in rows(run(lab, prompts_folder, "bias"))}
    assert "versus" not in found["base", "pronoun_gap"]
    versus = found["patched", "pronoun_gap"]["versus"]
    assert versus["lane"] == "base" and versus["n"] == 6 and 0 < versus["p"] <= 1
    difference = found["patched", "pronoun_gap"]["value"] - found["base", "pronoun_gap"]["value"]
    assert versus["difference"] == pytest.approx(difference)
    assert found["reference", "pronoun_gap"]["versus"]["lane"] == "patched"


def test_without_numbers_n_is_0_and_a_note_says_so(lab: Lab, prompts_folder: Path) -> None:
    write_jsonl(prompts_folder / "bias.jsonl", [{"text": "what does a nurse do", "kind": "chat", "id": "female:0"}])
    report = run(lab, prompts_folder, "bias")
    row = next(row for row in rows(report) if row["metric"] == "pronoun_gap")
    assert (row["value"], row["low"], row["n"]) == (None, None, 0)
    assert "bias pronoun_gap of base: undefined for every prompt (n = 1)" in report.notes


def test_suites_on_the_same_prompts_share_replies(lab: Lab, prompts_folder: Path) -> None:
    stages: dict[str, list[int]] = {}
    for step in evaluate(lab, stack=Stack.parse("calm"), suites=["overrefusal", "fluency"], n=6, folder=prompts_folder,
                         sampling=SAMPLING):
        if not isinstance(step, Report):
            stages.setdefault(step.stage, []).append(step.done)
    assert stages["overrefusal"][0] == 0 and stages["overrefusal"][-1] == 36
    assert stages["fluency"] == [18]


def test_what_cannot_be_asked_is_said_before_any_work(lab: Lab, prompts_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, kind, said in (("refusl", NotFoundError, "did you mean 'refusal'"),
                             ("xtest=a.jsonl", NotFoundError, "did you mean 'xstest'"),
                             ("xstest", InputError, "xstest=FILE.jsonl"), ("refusal=", InputError, "refusal=FILE.jsonl"),
                             (f"toxicity={tmp_path / 'empty.jsonl'}", InputError, "holds no row"),
                             (f"refusal={tmp_path / 'none.jsonl'}", InputError, "no file")):
        with pytest.raises(kind, match=said):
            next(evaluate(lab, stack=Stack.parse("none"), suites=[name], folder=prompts_folder))


def test_a_second_stack_has_the_figures_of_a_run_of_its_own(lab: Lab, prompts_folder: Path, tmp_path: Path) -> None:
    def reported(stack: str, **more: object) -> Report:
        *_, report = evaluate(lab, stack=Stack.parse(stack), suites=["refusal", "drift"], n=4, folder=prompts_folder,
                              sampling=SAMPLING, **more)  # type: ignore[arg-type]
        assert isinstance(report, Report)
        return report

    def figures(report: Report, lane: str) -> list[tuple[str, str, float]]:
        return [(m.suite, m.metric, m.value) for m in report.measures if m.lane == lane and m.value == m.value]

    others = {"patched 2: acme": Stack.parse("calm:0.5", gates=True)}
    both = reported("calm", others=others, out=tmp_path)
    assert figures(both, "patched") == figures(reported("calm"), "patched") != []
    assert figures(both, "patched 2: acme") == figures(reported("calm:0.5"), "patched")
    assert both.made_with["lanes"] == "base, patched, patched 2: acme, reference"
    assert both.made_with["patched 2: acme"].startswith("calm:0.5; parallel; turn; calm ")
    assert {m.lane for m in both.measures if m.metric == "kl_to_base"} == {"patched", "patched 2: acme"}
    with pytest.raises(InputError, match=r"patched 2: acme calm:0.5.* and now calm:0.25"):
        reported("calm", others={"patched 2: acme": Stack.parse("calm:0.25")}, out=tmp_path)
