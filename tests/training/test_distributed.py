"""Trainings that are killed, and trainings that are divided: the same patch as in one go and in one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TOY = Path(__file__).parents[1] / "made" / "toy_training.py"
TESTS = TOY.parents[1]
LONGEST = 1800  # seconds; ten are usual, but a machine may be busy


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS / 'made'}", **environment}
    return subprocess.Popen([sys.executable, str(TOY), *words], env=own, text=True, stdout=subprocess.PIPE)


def ended(children: list[subprocess.Popen[str]]) -> list[str]:
    """What the children printed; all of them end here, and well."""
    try:
        said = [child.communicate(timeout=LONGEST)[0] for child in children]
    finally:
        for child in children:
            with child:
                child.kill()
    assert [child.returncode for child in children] == [0] * len(children)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_the_patch_has_the_same_bytes(tmp_path: Path) -> None:
    [out] = ended([start("killed", str(tmp_path))])
    found = json.loads(out)
    assert found["fell"], "no kill came in time"
    assert len(found["same"]) == 4 and all(found["same"].values()), found
    assert found["logs"] and found["rows"] == 14, found


def test_two_processes_give_the_patch_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [start("divided", str(tmp_path / "two"), RANK=rank, LOCAL_RANK=rank, **group) for rank in ("0", "1")]
    children.append(start("divided", str(tmp_path / "one")))
    ended(children)
    for stage in ("sft", "dpo"):
        one, two = (load_file(tmp_path / name / "work" / f"{stage}.safetensors") for name in ("one", "two"))
        torch.testing.assert_close(two["exp_avg"], one["exp_avg"], atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(two["prefix"], one["prefix"], atol=1e-3, rtol=0)
    logs = [(tmp_path / name / "work" / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for a, b in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert (a["stage"], a["step"]) == (b["stage"], b["step"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3) and a["hold"] == pytest.approx(b["hold"], rel=1e-2, abs=1e-4)
