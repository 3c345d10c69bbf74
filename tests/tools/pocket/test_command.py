"""`python -m tools.pocket`: its options reach the work, and what goes wrong or is stopped is one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchlab.models.presets import ASSETS
from patchlab.records import Progress
from tools.pocket import build
from tools.pocket.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


def test_build_passes_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    plans: list[build.Plan] = []

    def one_stage(plan: build.Plan) -> Iterator[Progress]:
        plans.append(plan)
        yield Progress("tokenizer", 1, 1, "9 pieces")

    # the build has its own tests; here only what the command line asks of it
    monkeypatch.setattr(build, "STAGES", {"tokenizer": one_stage})
    where = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main(["build", *where, "--data", str(tmp_path), "--seed", "3"]) == 0
    assert (plans[0].out, plans[0].work, plans[0].data, plans[0].seed) == (
        tmp_path / "out", tmp_path / "work", tmp_path, 3)
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "out") and "9 pieces" in err
    assert main(["build", *where]) == 0
    assert plans[1].seed == build.SEED and plans[1].data is None


def test_a_build_that_is_stopped_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(plan: build.Plan) -> Iterator[Progress]:
        yield Progress("tokenizer", 0, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "STAGES", {"tokenizer": stopped})
    assert main(["build", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "my work")]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"go on with: python -m tools.pocket build --out {tmp_path}/out --work '{tmp_path}/my work'" in last


@pytest.mark.parametrize(("words", "said"), [
    (["build", "--data", "nowhere"], "no folder nowhere"),
    (["next", "--out", str(ASSETS)], "holds something else")])
def test_what_cannot_be_done_is_one_line(words: list[str], said: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tools.pocket", *words], cwd=ROOT, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert said in line
