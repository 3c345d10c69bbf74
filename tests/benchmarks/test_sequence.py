"""The halves of a sequence are what they are called: both at once are the engine's own sequence, neither its parallel stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.quality.sequence import ROOM, compiled, cut, main
from patchlab.engine import Lab, Segment, compile_prefix, load


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load("pocket", device="cpu")


def alike(one: Segment, other: Segment) -> bool:
    pairs = zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_both_halves_are_the_sequence_and_neither_is_the_parallel_stack(lab: Lab) -> None:
    some = [torch.randn(length, lab.base.width) for length in (4, 3)]
    behind, same = torch.arange(7), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    with torch.no_grad():
        whole = compile_prefix(lab.base, torch.cat(some))
        single = [compile_prefix(lab.base, each) for each in some]
    assert alike(compiled(lab.base, some, read=True, places=behind), whole)
    apart = cut(compiled(lab.base, some, read=False, places=same), (4, 3), 2.0)
    assert [segment.length for segment, _ in apart] == [4, 3]
    assert all(alike(segment, alone) for (segment, _), alone in zip(apart, single, strict=True))
    for read, places in ((False, behind), (True, same)):
        half = cut(compiled(lab.base, some, read=read, places=places), (4, 3), 2.0)
        assert alike(half[0][0], single[0]) and not alike(half[1][0], single[1])
        assert not alike(compiled(lab.base, some, read=read, places=places), whole)


def test_it_runs_and_reads_every_patch(tmp_path: Path) -> None:
    assert main(["--quick", "--out", str(tmp_path / "found.json")]) == 0
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert len(rows) == 2 * 4 + 3 * len(ROOM)
    assert all("refusal gap closed" in row["figures"] for row in rows[:8])
