"""The speed benchmarks run from end to end on tiny models and write figures; what they find there is judged by nobody."""

from __future__ import annotations

import json
import types
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from benchmarks.speed import adapter, clients, decode, gpu, installed, loop, scoring, toggle, train, trio
from benchmarks.speed.timing import Figure, race, ratio, report

pytestmark = pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning:peft")


QUICK = (adapter, clients, decode, installed, loop, scoring, toggle, train, trio)


@pytest.mark.parametrize("benchmark", QUICK, ids=lambda each: each.__name__)
def test_a_quick_run_writes_figures(benchmark: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--quick", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["quick"] and found["made_with"]["machine"]["threads"] >= 1
    assert any(figure["bar"] for figure in found["figures"])
    printed = capsys.readouterr().out
    for figure in found["figures"]:
        assert 0 < figure["low"] <= figure["value"] <= figure["high"] and figure["met"] is None
        assert figure["name"] in printed


def test_the_gpu_benchmark_runs_the_same_code_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ORDER", ("Llama-2-7B",))
    assert gpu.main(["--quick", "--device", "cpu", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    names = " ".join(figure["name"] for figure in found["figures"])
    for what in ("floor", "one graph", "toggling", "DPO step", "16 clients", "trio", "4 installed", "stream"):
        assert what in names
    assert found["left_out"] == []


def test_what_does_not_fit_a_card_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                                       tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(gpu, "made", full)
    assert gpu.main(["--quick", "--device", "cpu", "--out", str(tmp_path / "gpu.json")]) == 0
    assert capsys.readouterr().out.count("do not fit") == len(gpu.ORDER)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert "no GPU" in capsys.readouterr().out


def test_a_missed_bar_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = {"ours": [2.0, 4.0, 3.0], "theirs": [1.0, 1.0, 1.0]}
    slow, fast = (ratio(name, taken, "ours", "theirs", bar=bar) for name, bar in (("slow", "<= 3"), ("fast", ">= 2.5")))
    assert (slow.value, slow.low, slow.high, slow.met, fast.met) == (3, 2.5, 3.5, False, True)
    assert report([slow, fast], {}, name="made", quick=False, out=tmp_path / "found.json") == 1
    assert "MISSED" in capsys.readouterr().out
    assert report([fast, Figure.of("free", [1.0])], {}, name="made", quick=False, out=None) == 0


def test_a_race_warms_up_and_takes_turns() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: lambda: order.append(name) for name in "ab"}
    taken = race(sides, repeats=2, turns=2)
    assert {name: len(each) for name, each in taken.items()} == {"a": 2, "b": 2}
    assert "".join(order) == "abba" + "baab" + "abba"
