"""The patches that ship for SmolLM2 open, belong to one base, and have gates and evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchlab.patches import Patch

FOLDERS = sorted((Path(__file__).parents[2] / "assets" / "smollm2" / "patches").iterdir())


def test_the_three_domains_are_there_for_one_base() -> None:
    patches = [Patch.from_pretrained(folder) for folder in FOLDERS]
    assert [patch.manifest.domain for patch in patches] == ["bias", "refusal", "toxicity"]
    assert len({patch.manifest.base.fingerprint for patch in patches}) == 1


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_has_a_gate_and_evidence_and_as_many_numbers_as_it_says(folder: Path) -> None:
    patch = Patch.from_pretrained(folder)
    manifest = patch.manifest
    assert patch.prefix.shape == (manifest.length, manifest.width) == (50, 576)
    assert patch.gate is not None and len(patch.gate.weight) == manifest.width
    assert all(measure.n >= 80 for measure in manifest.evidence) and manifest.evidence
