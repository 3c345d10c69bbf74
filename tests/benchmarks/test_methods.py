"""The comparison of methods runs from end to end at tiny size, and gives all methods the same rows."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft", reason="needs peft: pip install -r requirements-dev.txt")
pytest.importorskip("trl", reason="needs trl: pip install -r requirements-dev.txt")

from benchmarks.quality import methods
from benchmarks.quality.methods_data import QUICK, Data, sample_once
from benchmarks.quality.methods_read import Instructed
from benchmarks.quality.methods_train import Clock, dpo_trainer, load, lora, loss_on, prompt_tuning, reading, sft_trainer
from benchmarks.quality.methods_tuning import FURTHER, best_rate, divergence
from patchlab.engine import BARE
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.records import Prompt
from patchlab.training.candidates import read_candidates
from patchlab.training.preference_data import stored_pairs

pytestmark = [pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning:peft"),
              pytest.mark.xdist_group("methods")]  # one process, so that what its tests share is made once


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared files of a quick comparison."""
    return sample_once(tmp_path_factory.mktemp("methods"), QUICK)


def test_a_quick_run_fills_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert methods.main(["--quick", "--here", "--work", str(tmp_path), "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    names = [row["name"] for row in found["rows"]]
    assert names == ["base", "reference", "written prompt", "LoRA rank 1, unmerged", "LoRA rank 1, merged",
                     "LoRA rank 16, unmerged", "LoRA rank 16, merged", "LoRA rank 16, KL term, unmerged",
                     "LoRA rank 16, KL term, merged", "prompt tuning (peft + trl)", "prompt tuning (peft + trl), KL term", "ours",
                     "ours, recipe for a patch alone", "shipped patch"]
    by_name = {row["name"]: row["figures"] for row in found["rows"]}
    assert by_name["ours"]["trainable parameters"] == by_name["prompt tuning (peft + trl)"]["trainable parameters"] == 50 * 256
    assert by_name["LoRA rank 16, merged"]["trainable parameters"] == 16 * by_name["LoRA rank 1, merged"]["trainable parameters"]
    assert by_name["base"]["gap closed"][0] == 0 and by_name["reference"]["gap closed"][0] == 1
    assert all("decoding / base" in figures for name, figures in by_name.items() if name != "reference")
    assert methods.main(["--quick", "--here", "--resume", "--work", str(tmp_path), "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == found["rows"]
    assert found["quick"] and all(figure["met"] is None for figure in found["figures"])
    assert "SFT samples a second, ours / peft + trl" in capsys.readouterr().out


def test_all_methods_are_dealt_the_rows_of_the_files(folder: Path) -> None:
    base = load("base")
    data = Data(folder, QUICK, base)
    rows = data.sft(QUICK.sft_steps)
    assert len(rows) == QUICK.sft_steps * QUICK.rows
    known = [base.encode(c.prompt) + base.encode_reply(c.text, kind=c.prompt.kind, complete=not c.cut)
             for c in read_candidates(folder / "candidates.jsonl")]
    assert len(known) % QUICK.rows == 0 and all(row.prompt + row.reply in known for row in rows)
    pairs = data.dpo(QUICK.dpo_steps)
    assert len(pairs) == QUICK.dpo_steps * QUICK.rows // 2
    texts = {(tuple(base.encode(p.prompt)), *(tuple(base.encode_reply(text, kind=p.prompt.kind, complete=not cut))
                                              for text, cut in ((p.chosen, p.chosen_cut), (p.rejected, p.rejected_cut))))
             for p in stored_pairs(folder / "pairs.jsonl")}
    assert {(tuple(p.prompt), tuple(p.reply), tuple(p.rejected or [])) for p in pairs} <= texts


def test_trl_reads_the_same_loss_as_ours(folder: Path, tmp_path: Path) -> None:
    data = Data(folder, QUICK, load("base"))
    recipe = data.recipe.with_(sft_steps=1, dpo_steps=1, sft_rate=1e-6)
    base = load("base", attention="eager")
    wrapped = prompt_tuning(base, recipe)
    rows, clock = data.sft(1), Clock()
    trainer = sft_trainer(wrapped, base, rows, recipe=recipe, folder=tmp_path, clock=clock)
    theirs = trainer.train().training_loss
    backbone, plan = reading(wrapped, base)
    ours = loss_on([pad_texts(backbone, [(row.prompt, row.reply) for row in rows])], backbone, plan)
    assert theirs == pytest.approx(ours, abs=0.03)  # theirs is computed in 16 bits where the processor can
    assert len(clock.ticks) == 1
    wrapped.train()
    dpo_trainer(wrapped, base, data.dpo(1), recipe=recipe, folder=tmp_path, clock=clock).train()
    assert len(clock.ticks) == 2


def test_a_written_prompt_stands_before_every_prompt() -> None:
    base = load("base")
    told = Instructed(base, "Stay calm.")
    prompt = Prompt("so what", "continue")
    assert told.encode(prompt) == base.encode(dataclasses.replace(prompt, system="Stay calm."))
    assert len(told.encode(prompt)) > len(base.encode(prompt))
    assert torch.equal(told.embeddings, base.embeddings)


@pytest.mark.parametrize(("lowest", "tried"), [(0.04, [0.01, 0.02, 0.04, 0.08]), (0.02, [0.01, 0.02, 0.04]),
                                               (0.005, [0.0025, 0.005, 0.01, 0.02, 0.04])])
def test_a_grid_grows_while_its_best_is_at_the_edge(lowest: float, tried: list[float]) -> None:
    rate, rates = best_rate(lambda rate: abs(math.log(rate / lowest)), (0.01, 0.02, 0.04))
    assert rate == pytest.approx(lowest) and rates == pytest.approx(tried)
    assert len(best_rate(lambda rate: -rate, (0.01, 0.02))[1]) == 2 + FURTHER
    assert best_rate(lambda rate: pytest.fail("nothing to compare"), (0.02,)) == (0.02, [0.02])


@pytest.mark.parametrize("kind", ["lora", "prompt tuning"])
def test_the_kl_term_of_others_is_that_of_the_engine(kind: str, folder: Path) -> None:
    data = Data(folder, QUICK, load("base"))
    base = load("base", attention="eager")
    wrapped = prompt_tuning(base, data.recipe) if kind == "prompt tuning" else lora(base, rank=1, seed=0)
    texts = data.others()[0]
    if kind == "lora":
        assert divergence(wrapped, texts).item() == pytest.approx(0, abs=1e-6)  # a new LoRA changes nothing
        return
    found = divergence(wrapped, texts)
    found.backward()
    assert wrapped.prompt_encoder["default"].embedding.weight.grad.abs().sum() > 0
    plain, plan = reading(wrapped, base)
    logs = [reply_logits(plain, texts, each).float().log_softmax(-1) for each in (plan, BARE)]
    expected = torch.nn.functional.kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(-1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
