"""Warnings about a stack: superseded patches, declared conflicts, pairs known to fight."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_rows import cell, change, known, pair, saved

from patchlab.patches import Manifest
from patchlab.patches.compatibility import conflicts, superseded_by, supersedes, warnings
from patchlab.patches.interactions import Interactions


@pytest.mark.parametrize(("names", "name", "version", "expected"), [
    (("calm",), "calm", "1.0.0", True), (("calm",), "calm", "2.0.0", True), (("calm@1.0.0",), "calm", "1.0.0", True),
    (("calm@1.0.0",), "calm", "1.0.1", False), (("calmer",), "calm", "1.0.0", False), ((), "calm", "1.0.0", False),
    (("polite",), "polite", "1.0.0", True),  # its own name: older versions of itself
    (("polite",), "polite", "1.2.0", False), (("polite",), "polite", "1.1.0", False),
    (("polite@1.0.0",), "polite", "1.0.0", True), (("polite",), "polite", "1.1.0-rc.1", True)])
def test_who_takes_whose_place(manifest: Manifest, names: tuple[str, ...], name: str, version: str, expected: bool) -> None:
    new = replace(saved(manifest, "polite", version="1.1.0"), supersedes=names)
    old = saved(manifest, name, version=version)
    assert supersedes(new, old) == expected and not supersedes(old, new)
    assert superseded_by(old, [old, new]) == ([new] if expected else [])


def test_a_patch_of_another_base_takes_no_place(manifest: Manifest) -> None:
    new = replace(saved(manifest, "polite", version="1.1.0"), supersedes=("calm",))
    assert not supersedes(new, replace(saved(manifest, "calm"), base=replace(manifest.base, fingerprint="0" * 16)))


def test_every_reason_is_one_sentence(manifest: Manifest) -> None:
    refusal, toxicity = saved(manifest, "refusal"), saved(manifest, "toxicity")
    assert warnings((refusal, toxicity), "parallel", Interactions()) == [] == warnings((), "blend", Interactions())
    assert warnings((refusal,), "parallel", Interactions()) == []

    newer = replace(saved(manifest, "calm", version="2.0.0"), supersedes=("toxicity@1.0.0",))
    for stack in ((newer, refusal, toxicity), (toxicity, newer)):
        [words] = warnings(stack, "parallel", Interactions())
        assert "'calm' takes the place of 'toxicity'" in words and "lists toxicity@1.0.0 under supersedes" in words

    for names in (("refusal",), ("refusal@1.0.0",)):
        foe = replace(saved(manifest, "foe"), conflicts=names)
        assert conflicts(foe, refusal) and not conflicts(refusal, foe)
        [words] = warnings((refusal, foe), "sequential", Interactions())
        assert "the manifest of 'foe' lists a conflict" in words
    both = (replace(refusal, conflicts=("foe",)), foe)
    assert len(warnings(both, "parallel", Interactions())) == 1, "both manifests list it, one warning"
    assert warnings((replace(saved(manifest, "foe"), conflicts=("refusal@2.0.0",)), refusal), "parallel", Interactions()) == []


def test_a_pair_known_to_fight_is_told_with_its_figures(manifest: Manifest) -> None:
    two = saved(manifest, "refusal"), saved(manifest, "toxicity")
    row = pair(*two, cell(patch="refusal@1.0.0", than=change(-9.0, -14.0, -4.0)),
               cell("overrefusal", than=change(-3.0, -5.0, -1.0)), cell(patch="toxicity@1.0.0", than=change(-1.0, -3.0, 1.0)))
    [words] = warnings(two, "parallel", known([row], *two), called=lambda each: f"<{each.title}>")
    assert words == ("<Refusal> and <Toxicity> are known to fight side by side: <Refusal> loses 9.0 points of its own effect "
                     "(4.0 to 14.0), harmless requests are refused 3.0 points more often (1.0 to 5.0); 95 % intervals, n = 4.")
    assert warnings(two, "blend", known([row], *two)) == []


def test_what_was_measured_on_another_base_is_not_told(manifest: Manifest) -> None:
    two = saved(manifest, "refusal"), saved(manifest, "toxicity")
    row = pair(*two, cell(patch="refusal@1.0.0", than=change(-9.0, -14.0, -4.0)))
    own, newer = manifest.base.fingerprint, "w2:" + "a" * 64
    found = known([row], *two)
    assert len(warnings(two, "parallel", found)) == len(warnings(two, "parallel", found, fingerprints={own, newer})) == 1
    assert warnings(two, "parallel", found, fingerprints={newer}) == []
    renamed = known([replace(row, base=newer)], *two)  # measured under the base's newer fingerprint
    assert len(warnings(two, "parallel", renamed, fingerprints={own, newer})) == 1
    assert warnings(two, "parallel", renamed) == []
