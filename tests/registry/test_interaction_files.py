"""Files of measured interactions are found beside the patches, and only their fresh rows are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_rows import cell, known, pair

from patchlab.patches.interactions import Interactions, save_interactions
from patchlab.registry import Registry
from patchlab.registry.interaction_files import FILE, find_interactions, place_of


def test_files_beside_patches_are_found_and_confuse_no_registry(place: Callable[..., Path], tmp_path: Path) -> None:
    registry = Registry([tmp_path / "shipped", tmp_path / "home"])
    for folder, name in ((tmp_path / "shipped", "refusal"), (tmp_path / "shipped", "toxicity"), (tmp_path / "home", "bias")):
        place(folder, name, "1.0.0")
    listed = registry.list()
    bias, refusal, toxicity = (one.manifest for one in listed)
    assert find_interactions(registry) == (Interactions(), [])
    save_interactions(known([pair(refusal, toxicity, cell())], refusal, toxicity), tmp_path / "shipped" / FILE)
    save_interactions(known([pair(bias, toxicity, cell()), pair(toxicity, refusal)], *(o.manifest for o in listed)),
                      tmp_path / "home" / FILE)
    assert [one.folder for one in registry.list()] == [one.folder for one in listed] and registry.broken == []
    found, broken = find_interactions(registry)
    assert [row.stack for row in found.rows] == [("refusal@1.0.0", "toxicity@1.0.0"), ("bias@1.0.0", "toxicity@1.0.0")]
    assert found.rows[0].cells and broken == []

    place(tmp_path / "shipped", "toxicity", "1.0.0", seed=1)  # retrained
    assert find_interactions(registry)[0].rows == ()
    (tmp_path / "shipped" / FILE).write_text("{}")
    assert [FILE in words for words in find_interactions(registry)[1]] == [True]


def test_the_file_lies_beside_its_patches(place: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "mine"))
    place(tmp_path / "shipped", "refusal", "1.0.0")
    place(tmp_path / "shipped", "toxicity", "1.0.0")
    place(tmp_path / "other", "bias", "1.0.0")
    assert place_of(Registry([tmp_path / "shipped"]).list()) == tmp_path / "shipped" / FILE
    assert place_of(Registry([tmp_path / "shipped", tmp_path / "other"]).list()) == tmp_path / "mine" / "patches" / FILE
