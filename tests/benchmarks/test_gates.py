"""The benchmark of gates runs, and a patch that its gate skips for every harmless prompt has no KL to the base there."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.quality.gates import main


def test_every_patch_is_read_with_gates_and_without(tmp_path: Path) -> None:
    assert main(["--quick", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    groups: dict[str, list[dict[str, list[float]]]] = {}
    for row in found["rows"]:
        groups.setdefault(row["group"], []).append(row["figures"])
    decided, read, cost = groups.values()
    assert found["quick"] and len(decided) == len(found["patches"]) and len(read) == 1 + 2 * (len(decided) + 1) and len(cost) == 1
    for figures in decided:
        assert all(0 <= low <= value <= high <= 1 for value, low, high, _ in figures.values())
        assert {"recall", "precision", "on: benign", "on: visitors harmful"} <= figures.keys()
    for decision, off, on in zip(decided, read[1::2], read[2::2], strict=False):
        assert on.keys() == off.keys() and off["KL to base on benign"][0] > 0
        assert on["KL to base on benign"][0] <= off["KL to base on benign"][0]
        if decision["on: benign"][0] == 0:  # skipped for all of them
            assert on["KL to base on benign"][0] == 0
