"""The benchmark of bases in few bits runs, and reads every patch at every width."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality.quantization import main

pytest.importorskip("bitsandbytes")


def test_every_patch_is_read_at_every_width(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert main(["--quick", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["name"] for row in rows if row["group"] == "What a patch does"} == {
        f"{name}, {width}" for name in ("bias", "refusal", "toxicity") for width in ("as they are", "8 bits", "4 bits")}
    sizes = [row["figures"]["layers MB"] for row in rows if "layers MB" in row["figures"]]
    assert sizes[0] > sizes[1] > sizes[2]
