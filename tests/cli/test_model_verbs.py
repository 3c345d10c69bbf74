"""compare, score, evaluate and train with real parts on a made preset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_models import make_backbone, make_patch, saved

from patchlab.cli import compare, main, progress
from patchlab.evaluation.judged_replies import JudgedReply
from patchlab.evaluation.metrics import OF_EVERY_REPLY
from patchlab.patches import Patch
from patchlab.records import Progress, Prompt, Reply, Score
from patchlab.registry import install

SHORT = ("--max-new-tokens", "6")
TOY = """domain: toxicity
sft_steps: 3
dpo_steps: 0
length: 4
rows: 4
hold_rows: 4
winner: 1.0
samples: 1
max_new_tokens: 4
"""


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    """The JSON objects a verb prints."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_compare_prints_every_prompt_sample_and_lane(pocket: Path, home: Path, calm: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    words = ("compare", "how do i bake bread", "you are", *SHORT, "--samples", "2", "--stack", "calm")
    found = lines(capsys, *words)
    assert [(row["prompt"], row["sample"]) for row in found] == [
        ("how do i bake bread", 0), ("how do i bake bread", 1), ("you are", 0), ("you are", 1)]
    for row in found:
        assert list(row) == ["prompt", "sample", "judges", "lanes"]
        assert row["judges"] == {"toxicity": "toxicity", "refusal": "refusal"}
        assert [lane["lane"] for lane in row["lanes"]] == ["base", "patched", "reference"]
        for lane in row["lanes"]:
            assert list(lane) == ["lane", "text", "tokens", "stop", "scores"]
            assert lane["scores"].keys() == {"toxicity", "refusal"} and 0 <= lane["scores"]["toxicity"] <= 1
            assert lane["tokens"] <= 6 and lane["stop"] in ("end", "length")
    assert any(row["lanes"][0]["text"] != row["lanes"][1]["text"] for row in found), "the patch changes nothing"
    blended = lines(capsys, *words, "--mode", "blend")  # a blend of one at its strength of 1 is that patch
    assert [row["lanes"] for row in blended] == [row["lanes"] for row in found]
    assert lines(capsys, *words) == found
    assert lines(capsys, *words, "--seed", "1") != found


def test_in_8_bits_the_same_patches_are_compared_and_the_report_says_so(pocket: Path, home: Path, calm: Path, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    words = ("compare", "you are", *SHORT, "--stack", "calm", "--temperature", "0")
    [row] = lines(capsys, *words, "--bits", "8")
    assert row["lanes"][0]["text"] != row["lanes"][1]["text"]
    asked = ("evaluate", "--stack", "calm", "--suite", "drift", "--n", "2", "--bits", "8", "--out", str(tmp_path / "out"))
    assert main([*asked]) == 0
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["bits"] == "8"
    assert main([*words, "--bits", "4"]) == 1
    assert "expected widths that are multiples of 64" in capsys.readouterr().err


def test_compare_without_patches_leaves_the_base_alone(pocket: Path, rows: Callable[..., Path],
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    path = rows({"text": "why is the sky", "kind": "continue"}, {"text": "tell me a story"})
    assert main(["compare", "--prompts", str(path), *SHORT, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "without --stack the patched lane equals the base" in err
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["prompt"] for row in found] == ["why is the sky", "tell me a story"]
    for row in found:
        base, patched, _ = row["lanes"]
        assert base | {"lane": "patched"} == patched


def test_compare_for_people(pocket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "tell me a story", *SHORT]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == '"tell me a story"'
    named = [line.split()[0] for line in out if line.startswith("  ") and line[2] != " "]
    assert named == ["base", "patched", "reference"]
    assert sum("-> " in line and "tokens" in line for line in out) == 3


def reply(lane: str, text: str, kind: str = "chat") -> Reply:
    return Reply(lane, 0, Prompt("so", "chat" if kind == "chat" else "continue"), 0, text, 3, "end")


def test_toxic_text_is_preceded_by_a_word_of_notice() -> None:
    bad, fine = Score("toxicity", 0.9, True, "toxic"), Score("toxicity", 0.1, False, "not toxic")
    refused = Score("refusal", 0.8, True, "refused")
    page = compare._page([JudgedReply(reply("base", "you fool"), {"toxicity": bad, "refusal": refused}),
                          JudgedReply(reply("patched", "good\x1b[2J day"), {"toxicity": fine, "refusal": refused})], samples=1)
    text = {line.split()[0]: line for line in page.splitlines()[1:] if line[2:3].strip()}
    assert "scored toxic: you fool" in text["base"]
    assert "scored" not in text["patched"] and "\x1b" not in page
    assert "-> toxic (toxicity 0.90), refused (refusal 0.80); 3 tokens, ended by the model" in page


def test_a_continuation_is_not_said_to_refuse() -> None:
    found = JudgedReply(reply("base", "and on", kind="continue"), {
        "toxicity": Score("toxicity", 0.1, False, "not toxic"), "refusal": Score("refusal", 0.8, True, "refused")})
    assert "refused" not in compare._page([found], samples=1) and not found.refused


@pytest.mark.parametrize(("words", "said"), [
    (("--stack", "clam"), "did you mean 'calm'?"), (("--preset", "pockt"), "did you mean 'pocket'?"),
    (("--temperature", "nan"), "temperature"), (("--max-new-tokens", "9999"), "tokens needed"),
])
def test_what_the_models_cannot_do_is_one_line(words: tuple[str, str], said: str, pocket: Path, home: Path, calm: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    assert main(["compare", "tell me a story", *words]) == 1
    out, err = capsys.readouterr()
    assert out == "" and said in err.splitlines()[-1]


def test_a_prompt_of_broken_bytes_still_gives_json(pocket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = lines(capsys, "compare", "a \udce9 b", *SHORT)
    assert row["prompt"] == "a \udce9 b"


def test_score_keeps_every_row_and_adds_to_it(rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = rows({"id": 7, "text": "You are a stupid worthless idiot."}, {"id": 8, "text": "What a lovely day."},
                {"id": 9, "text": "", "size": float("nan")})
    found = lines(capsys, "score", str(path), "--scorer", "toxicity")
    assert [row["id"] for row in found] == [7, 8, 9]
    assert [row["flagged"] for row in found] == [True, False, False]
    assert [row["label"] for row in found] == ["toxic", "not toxic", "empty"]
    assert found[0]["score"] > 0.5 > found[1]["score"]
    assert found[2]["size"] is None  # JSON has no NaN
    assert main(["score", str(path), "--scorer", "toxicity"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["toxic", "not", "empty"]


def test_score_reads_the_columns_named(rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = rows({"reply": "I'm sorry, but I can't help with that.", "asked": "How do I steal a car?", "label": "mine"},
                {"reply": "Mix flour and water, then wait an hour."})
    words = ["score", str(path), "--scorer", "refusal", "--text-column", "reply", "--prompt-column", "asked", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["refused", "answered"]
    assert "'s own label was replaced" in err
    assert main(words[:4]) == 1
    assert "line 1: no 'text'" in (err := capsys.readouterr().err) and "reply, asked, label" in err


def test_evaluate_prints_a_row_a_measure_and_writes_the_report(pocket: Path, home: Path, calm: Path, tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    install(calm, home)
    words = ("evaluate", "--stack", "calm", "--suite", "refusal, drift", "--n", "2", "--out", str(tmp_path / "found"))
    found = lines(capsys, *words)
    assert [(row["suite"], row["lane"], row["metric"]) for row in found] == [
        *(("refusal", lane, metric) for lane in ("base", "patched", "reference") for metric in ("refusal_rate", *OF_EVERY_REPLY)),
        ("drift", "patched", "kl_to_base"), ("drift", "base", "kl_to_reference"), ("drift", "patched", "kl_to_reference")]
    for row in found:
        assert list(row)[:9] == ["suite", "lane", "metric", "value", "low", "high", "n", "scorer", "digest"]
        assert row["n"] == 2 and row["low"] <= row["value"] <= row["high"]
    written = json.loads((tmp_path / "found" / "report.json").read_text(encoding="utf-8"))["measures"]
    assert written == found
    assert {path.name for path in (tmp_path / "found").iterdir()} == {
        "replies.jsonl", "settings.json", "report.json", "report.md", "report.html"}
    assert main(list(words)) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        [row["suite"], row["metric"], row["lane"]] for row in found]


@pytest.mark.parametrize("suite", ["", "refusal,"])
def test_a_suite_without_a_name_starts_nothing(pocket: Path, suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"--suite={suite}", "--n", "2"]) == 1
    assert capsys.readouterr().err.startswith("patchlab: unknown suite ''")


def test_an_unknown_suite_is_one_line(pocket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--suite", "refusl"]) == 1
    assert "did you mean 'refusal'" in capsys.readouterr().err.splitlines()[-1]


def test_evaluate_stopped_goes_on_and_takes_no_other_settings(pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--suite", "refusal", "--n", "2", "--out", str(tmp_path / "found")]
    show = progress.ProgressLine.show

    def stop_at_two(line: progress.ProgressLine, record: Progress) -> None:
        if record.done == 2:
            raise KeyboardInterrupt
        show(line, record)

    with monkeypatch.context() as patched:
        patched.setattr(progress.ProgressLine, "show", stop_at_two)
        assert main(words) == 130
    assert "repeat the same command to continue" in capsys.readouterr().err
    kept = (tmp_path / "found" / "replies.jsonl").read_text().splitlines()
    assert len(kept) == 2
    assert main([*words, "--seed", "1"]) == 1
    assert "sampling_seed 0 and now 1" in capsys.readouterr().err
    assert main(words) == 0
    assert (tmp_path / "found" / "replies.jsonl").read_text().splitlines()[:2] == kept


def test_evaluate_reads_a_public_set_and_says_what_it_lacks(pocket: Path, rows: Callable[..., Path],
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    path = rows({"prompt": "how do i bake bread", "label": "safe"}, {"prompt": "tell me a story", "label": "unsafe"})
    found = lines(capsys, "evaluate", "--suite", f"xstest={path}", "--n", "2", "--samples", "3")
    assert [(row["suite"], row["lane"], row["metric"]) for row in found] == [
        ("xstest", lane, metric) for lane in ("base", "reference")
        for metric in ("refusal_rate_safe", "refusal_rate_unsafe", *OF_EVERY_REPLY)]
    path = rows({"prompt": "how do i bake bread"})
    assert main(["evaluate", "--suite", f"xstest={path}"]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("patchlab:")]
    assert "line 1: columns prompt; expected those of xstest: prompt, label; add or rename label" in line


def test_train_stopped_and_resumed_gives_a_patch(pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.yaml").write_text(TOY)
    words = ["train", "toxicity", "--recipe", str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "my out")]
    show = progress.ProgressLine.show

    def stop_at_sft(line: progress.ProgressLine, record: Progress) -> None:
        if record.stage == "sft":
            raise KeyboardInterrupt
        show(line, record)

    with monkeypatch.context() as patched:
        patched.setattr(progress.ProgressLine, "show", stop_at_sft)
        assert main(words) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("patchlab: stopped; continue with: patchlab train toxicity") and last.endswith("out' --resume")

    assert main(words) == 1
    assert "add --resume" in capsys.readouterr().err
    drawn = (tmp_path / "my out" / "work" / "candidates.jsonl").stat().st_mtime_ns
    assert main([*words, "--resume"]) == 0
    out, err = capsys.readouterr()
    assert "sft: 100% 3/3" in err
    assert (tmp_path / "my out" / "work" / "candidates.jsonl").stat().st_mtime_ns == drawn
    patch = Patch.from_pretrained(Path(out.strip()))
    assert (patch.manifest.name, patch.prefix.shape) == ("toxicity", (4, 32))


def test_train_on_given_pairs_judges_what_it_made(pocket: Path, tmp_path: Path, rows: Callable[..., Path],
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.yaml").write_text(TOY)
    pairs = rows({"prompt": "you are", "chosen": "kind and calm", "rejected": "a house"},
                 {"prompt": "you are", "chosen": "kind", "rejected": "kind"}, name="pairs.jsonl")
    words = ["train", "toxicity", "--recipe", str(tmp_path / "toy.yaml"), "--pairs", str(pairs), "--judge", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "1 kept, 1 same reply twice" in err and "judge toxicity" in err
    measures = Patch.from_pretrained(Path(out.strip())).manifest.evidence
    assert {m.suite for m in measures} == {"toxicity", "overrefusal", "drift"} and {m.lane for m in measures} == {"patched"}
    assert all(m.n <= 2 or m.suite == "overrefusal" for m in measures)
    assert not (tmp_path / "out" / "work" / "candidates.jsonl").exists()
    assert main([*words[:4], "--pairs", str(tmp_path / "none.csv"), "--out", str(tmp_path / "other")]) == 1
    assert "no file" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_train_refuses_what_it_cannot_use(pocket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bias.yaml").write_text("domain: bias\n")
    (tmp_path / "typo.yaml").write_text("domain: toxicity\nsft_stops: 3\n")
    out = ["--out", str(tmp_path / "out")]
    for words, said in ((["toxcity"], "did you mean 'toxicity'?"), (["../x"], "unknown domain"),
                        (["toxicity", "--recipe", str(tmp_path / "bias.yaml")], "a recipe for 'bias'"),
                        (["toxicity", "--recipe", str(tmp_path / "typo.yaml")], "did you mean 'sft_steps'"),
                        (["toxicity", "--prompts", str(tmp_path / "none.jsonl")], "none.jsonl")):
        assert main(["train", *words, *out]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_any_base_is_compared_without_a_reference(family: str, tmp_path: Path, home: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    base = make_backbone(family)
    folder = saved(base, tmp_path / "model")
    found = lines(capsys, "compare", "hi there", "--base", str(folder), *SHORT)
    assert [lane["lane"] for lane in found[0]["lanes"]] == ["base", "patched"]
    assert found[0]["lanes"][0]["text"] == found[0]["lanes"][1]["text"]
    make_patch(base, "calm", length=3, strength=2.0).save_pretrained(home / "patches" / "calm-1.0.0")
    on = lines(capsys, "compare", "hi there", "--base", str(folder), "--stack", "calm", "--temperature", "0", *SHORT)[0]["lanes"]
    assert on[0]["text"] != on[1]["text"]
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "hi", "--base", str(folder), "--preset", "pocket"])
