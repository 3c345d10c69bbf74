"""The transfer benchmark makes releases at growing distances, checks every patch on each, and does nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality import transfer


def test_every_patch_is_checked_on_every_release_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    assert transfer.main(asked) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    groups = dict.fromkeys(row["group"] for row in found["rows"])
    assert found["quick"] and len(groups) == found["groups"] == 2
    for group in groups:
        own, *checks = [row for row in found["rows"] if row["group"] == group]
        assert own["name"] == "the release itself" and own["figures"]["KL of the old base to it, harmless"][0] > 0
        assert [row["name"] for row in checks] == ["bias", "refusal", "toxicity"]
        for row in checks:
            assert ":" in row["note"] and {"harmless refused", "KL to this base, harmless"} <= row["figures"].keys()
            assert {m["lane"] for m in row["measures"]} == {"old base", "old patched", "base", "patched"}
            for value, low, high, n in row["figures"].values():
                assert low <= value <= high and n > 0

    for name in ("check_port", "train_model"):
        where = "tools.pocket.next" if name == "train_model" else "benchmarks.quality.transfer"
        monkeypatch.setattr(f"{where}.{name}", lambda *_, **__: pytest.fail("done again"))
    assert transfer.main(asked) == 0
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == found["rows"]
