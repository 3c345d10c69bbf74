"""The model card says what the manifest says, and no text in a manifest can act on the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchlab.patches import Manifest, Patch
from patchlab.patches.card import model_card


def front_matter(card: str) -> dict[str, Any]:
    before, head, _ = card.split("---\n", 2)
    assert before == ""
    return dict(yaml.safe_load(head))


def test_the_card_tells_hub_and_reader(manifest: Manifest) -> None:
    card = model_card(manifest)
    assert front_matter(card) == {
        "library_name": "peft", "pipeline_tag": "text-generation", "base_model": "example/base",
        "license": "apache-2.0", "tags": ["patchlab", "prompt-tuning", "safety", "toxicity"],
    }
    assert "# Calmer replies\n\nAnswers without insults." in card
    assert "| toxicity | patched | toxic\\_rate | 0.125 | 0.08 to 0.19 | 200 | toxicity@1 |" in card
    for part in ("24 parameters", "`ffffffffffffffff`", "PeftModel.from_pretrained", "--stack toxicity",
                 'revision="main"', "## Limits", "toxicity@0.9.0", "rude"):
        assert part in card


def test_no_evidence_is_said(manifest: Manifest) -> None:
    card = model_card(dataclasses.replace(manifest, evidence=()))
    assert "No measurement is recorded" in card and "95 %" not in card


@pytest.mark.parametrize("licence", ['my "own": licence', "- x", "# y", "yes"])
def test_an_unknown_licence_is_other_with_its_name(manifest: Manifest, licence: str) -> None:
    head = front_matter(model_card(dataclasses.replace(manifest, licence=licence)))
    assert (head["license"], head["license_name"]) == ("other", licence)


def test_a_base_that_is_no_hub_id_is_left_out_of_the_metadata(manifest: Manifest) -> None:
    base = dataclasses.replace(manifest.base, id="./models/base", revision="")
    card = model_card(dataclasses.replace(manifest, base=base))
    assert "base_model" not in front_matter(card)
    assert 'AutoModelForCausalLM.from_pretrained("./models/base")' in card


def test_text_cannot_act_on_the_page(manifest: Manifest) -> None:
    card = model_card(dataclasses.replace(manifest, title="<script> | `x` [a](b)"))
    assert "# \\<script\\> \\| \\`x\\` \\[a\\](b)\n" in card


def test_a_card_of_ones_own_is_kept(patch: Patch, tmp_path: Path) -> None:
    folder = patch.save_pretrained(tmp_path / "p", card="# Mine\n")
    assert (folder / "README.md").read_bytes() == b"# Mine\n"
    Patch.from_pretrained(folder)
