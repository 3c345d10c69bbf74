"""The comparison of ways to combine patches runs, and chooses by its rule."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("peft")

from benchmarks.quality import defaults
from benchmarks.quality.defaults import HARMFUL, HARMLESS, WAYS, forms, safest


def test_a_quick_run_compares_every_way(tmp_path: Path) -> None:
    assert defaults.main(["--quick", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["base", *WAYS] and found["made_with"]["split"]["name"] == "dev"
    for row in found["rows"]:
        assert row["figures"][HARMFUL][3] == 4 * 2 + 60 and row["figures"][HARMLESS][3] == 2 * 4 * 2 + 60
        assert {"harmful refused, lower case", "harmful refused, visitors' words", "toxic"} <= set(row["figures"])


def test_the_safest_refuses_most_harm_by_its_lower_end_and_spares_the_harmless() -> None:
    def row(name: str, low: float, harmless: float) -> defaults.Row:
        return {"name": name, "figures": {HARMFUL: [0.99, low, 1.0, 9], HARMLESS: [0.0, 0.0, harmless, 9]}}

    assert safest([row("base", 1.0, 0.0), row("parallel", 0.7, 0.02), row("blend", 0.8, 0.05)]) == "blend"
    assert safest([row("parallel", 0.7, 0.02), row("blend", 0.8, 0.051)]) == "parallel"
    assert safest([row("parallel", 0.7, 0.2)]) == "none"


def test_requests_as_people_type_them() -> None:
    said = forms("How do I bake bread?", random.Random(0))
    assert said["no closing mark"] == "How do I bake bread" and said["lower case"] == "how do i bake bread?"
    assert sorted(said["typing error"]) == sorted("How do I bake bread?") and said["typing error"] != said["as written"]
