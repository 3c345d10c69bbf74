"""A patch goes to another base by one explicit step and by nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from made_models import byte_fallback, byte_level, full_forward, make_backbone, make_model, make_patch, some_ids

from patchlab.engine import Bank, Trio
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import BaseMismatchError, InputError
from patchlab.evaluation.binding import differences, ported
from patchlab.models import Backbone, Preset
from patchlab.patches import Manifest, Patch, Stack
from patchlab.records import Measure
from patchlab.registry import Registry


def versioned(patch: Patch, version: str) -> Patch:
    return Patch(dataclasses.replace(patch.manifest, version=version), patch.prefix)


def test_without_asking_a_wrong_base_stays_an_error_that_names_both(llama: Backbone) -> None:
    patch, other = make_patch(llama, "calm", length=4), make_backbone("llama", seed=1)
    with pytest.raises(BaseMismatchError) as caught:
        Bank(other).segment([patch])
    assert all(base.identity.fingerprint[:12] in str(caught.value) for base in (llama, other))
    Bank(other).segment([ported(patch, other)])
    with pytest.raises(BaseMismatchError):  # and what was ported does not fit the old base any more
        Bank(llama).segment([ported(patch, other)])


def test_a_ported_patch_is_its_prefix_before_the_new_bases_text(llama: Backbone) -> None:
    patch, other = make_patch(llama, "calm", length=4), make_backbone("llama", seed=1)
    moved = ported(patch, other)
    ids = some_ids(9, seed=3)
    with torch.no_grad():
        mine = reply_logits(other, pad_texts(other, [(ids[:1], ids[1:])]), ((Bank(other).segment([moved]), 1.0),))
        wanted = full_forward(other, ids, [(torch.tensor(patch.prefix), 1.0)])[:-1]
    torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)


def test_a_ported_patch_says_what_it_is_and_claims_nothing(llama: Backbone, tmp_path: Path) -> None:
    measured = Measure("toxicity", "patched", "toxic_rate", 0.1, 0.0, 0.2, 9, "toxicity")
    patch = make_patch(llama, "calm", length=4)
    patch = Patch(dataclasses.replace(patch.manifest, evidence=(measured,), summary="x" * 2000), patch.prefix)
    other = make_backbone("llama", seed=1)
    moved = Patch.from_pretrained(ported(patch, other).save_pretrained(tmp_path / "moved"))
    assert moved.manifest.base == other.identity and moved.manifest.evidence == ()
    assert moved.manifest.version == f"1.0.0+port.{other.identity.fingerprint[3:11]}"
    assert llama.identity.fingerprint[:12] in moved.manifest.summary
    assert (moved.prefix == patch.prefix).all() and isinstance(moved.manifest, Manifest)


@pytest.mark.parametrize(("before", "after"), [
    ("1.0.0-rc.1", "1.0.0-rc.1+port.{}"), ("1.0.0+nightly.7", "1.0.0+nightly.7.port.{}"),
    ("1.2.0+port.0123abcd", "1.2.0+port.{}"), ("1.2.0+port.0123abcd.late", "1.2.0+late.port.{}")])
def test_a_version_carries_one_port_and_keeps_the_rest(before: str, after: str, llama: Backbone) -> None:
    other = make_backbone("llama", seed=1)
    moved = ported(versioned(make_patch(llama, "calm", length=4), before), other)
    assert moved.manifest.version == after.format(other.identity.fingerprint[3:11])


def test_what_cannot_go_over_is_refused(llama: Backbone) -> None:
    patch = make_patch(llama, "calm", length=4)
    with pytest.raises(InputError, match="made for this very base"):
        ported(patch, llama)
    wide = Backbone(make_model("llama", vocabulary=len(byte_level()), hidden_size=64), byte_level(), name="wide")
    with pytest.raises(BaseMismatchError, match=r"width 32; expected width 64, that of wide"):
        ported(patch, wide)


def test_every_difference_is_named(llama: Backbone) -> None:
    patch = make_patch(llama, "calm", length=4)
    assert differences(patch, llama) == ()
    other = Backbone(make_model("llama", vocabulary=len(byte_fallback()), seed=4), byte_fallback(), name="other words")
    assert [each.split()[0] for each in differences(patch, other)] == ["weights", "tokenizer", "chat"]
    ported(patch, other)  # another tokenizer is told, not refused: the width fits


def test_of_several_versions_each_base_takes_its_own(llama: Backbone, tmp_path: Path) -> None:
    other = make_backbone("llama", seed=1)
    patch = make_patch(llama, "calm", length=4)
    newer = versioned(make_patch(llama, "calm", length=4, seed=9), "0.9.0")
    for each in (patch, newer, ported(patch, other)):
        each.save_pretrained(tmp_path / each.manifest.folder_name)

    def trio(base: Backbone) -> Trio:
        return Trio(base, llama, registry=Registry([tmp_path]), preset=Preset("tiny", "Tiny", "a", "b", "made"))

    for base, version in ((llama, "1.0.0"), (other, f"1.0.0+port.{other.identity.fingerprint[3:11]}")):
        assert trio(base).patch("calm").manifest.version == version
        assert len(trio(base).parts(Stack.parse("calm"))) == 1
    with pytest.raises(BaseMismatchError):
        trio(other).patch("calm", "1.0.0")
    with pytest.raises(BaseMismatchError):
        trio(make_backbone("llama", seed=2)).patch("calm")
