"""The bank: compiled once, kept within its budget, the same when compiled again."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from made_models import CONTEXT, byte_level, make_backbone, make_model, make_patch, some_ids

from patchlab.engine import Bank, Segment, StackPlan, compile_prefix
from patchlab.engine.decode import Batch, BatchRow
from patchlab.errors import BaseMismatchError, ContextError, PatchFormatError, StackError
from patchlab.models import Backbone
from patchlab.patches import Patch


def same(a: Segment, b: Segment) -> bool:
    return all(torch.equal(x, y) for x, y in zip((*a.keys, *a.values), (*b.keys, *b.values), strict=True))


def test_toggling_compiles_nothing_anew(llama: Backbone) -> None:
    bank = Bank(llama)
    a, b = make_patch(llama, "a", length=4), make_patch(llama, "b", length=6)
    for patches in ([a], [b], [a, b], [b, a]):
        bank.segment(patches)
    assert bank.compilations == 4
    for strength in (0.0, 0.3, 1.0, 2.0):
        plan = StackPlan.of(*((bank.segment(patches), strength) for patches in ([a], [b], [a, b])))
        Batch(llama, [BatchRow(some_ids(5, seed=0), plan)], room=2).prefill()
    renamed = dataclasses.replace(a, manifest=dataclasses.replace(a.manifest, version="1.0.1"))
    assert bank.segment([renamed]) is bank.segment([a])
    assert bank.compilations == 4


def test_compiled_is_recomputed(backbone: Backbone) -> None:
    patches = [make_patch(backbone, "a", length=4), make_patch(backbone, "b", length=6)]
    first, second = (Bank(backbone).segment(patches) for _ in range(2))
    assert first is not second and same(first, second)
    assert first.length == 10
    assert first.size == sum(t.numel() * 4 for t in (*first.keys, *first.values))


def test_the_least_recently_used_leave_first(llama: Backbone) -> None:
    a, b, c = (make_patch(llama, name, length=4) for name in "abc")
    one = Bank(llama).segment([a])
    bank = Bank(llama, budget=2 * one.size)
    kept = bank.segment([a])
    bank.segment([b])
    assert bank.segment([a]) is kept  # so b is the oldest now
    bank.segment([c])
    assert (len(bank), bank.size, bank.compilations) == (2, 2 * one.size, 3)
    assert bank.segment([a]) is kept
    assert bank.compilations == 3
    again = bank.segment([b])
    assert bank.compilations == 4
    assert same(again, Bank(llama).segment([b]))


def test_what_leaves_the_bank_is_told_in_one_line(llama: Backbone, caplog: pytest.LogCaptureFixture) -> None:
    short, other, long = (make_patch(llama, name, length=n) for name, n in (("short", 3), ("other", 3), ("long", 6)))
    bank = Bank(llama, budget=2 * Bank(llama).segment([short]).size)
    bank.segment([short])
    bank.segment([other])
    assert caplog.messages == []
    bank.segment([long])
    [line] = caplog.messages
    assert "budget of 1,536 bytes" in line and "used patches: short 1.0.0, other 1.0.0;" in line and len(bank) == 1


def test_a_segment_over_the_whole_budget_is_refused(llama: Backbone) -> None:
    small = make_patch(llama, "a", length=2)
    bank = Bank(llama, budget=Bank(llama).segment([small]).size)
    bank.segment([small])
    with pytest.raises(StackError, match="at most the bank's budget"):
        bank.segment([make_patch(llama, "b", length=3)])
    assert len(bank) == 1


def test_a_wrong_base_names_both_fingerprints(llama: Backbone) -> None:
    other = make_backbone("llama", seed=1)
    assert other.identity.fingerprint != llama.identity.fingerprint
    patch = make_patch(other, "a", length=3)
    with pytest.raises(BaseMismatchError) as caught:
        Bank(llama).segment([patch])
    assert patch.manifest.base.fingerprint[:12] in str(caught.value)
    assert llama.identity.fingerprint[:12] in str(caught.value)


def test_a_wrong_base_is_refused_also_when_its_prefix_is_in_the_bank(llama: Backbone) -> None:
    bank = Bank(llama)
    bank.segment([make_patch(llama, "a", length=3)])
    with pytest.raises(BaseMismatchError):
        bank.segment([make_patch(llama, "a", length=3, base=make_backbone("llama", seed=1).identity)])


def test_another_tokenizer_is_refused(llama: Backbone) -> None:
    identity = dataclasses.replace(llama.identity, tokenizer_digest="0" * 64)
    with pytest.raises(BaseMismatchError, match="tokenizer"):
        Bank(llama).segment([make_patch(llama, "a", length=3, base=identity)])


def test_a_prefix_of_another_width_says_both_widths(llama: Backbone) -> None:
    with pytest.raises(PatchFormatError, match=r"\[3, 16\].*D=32"):
        compile_prefix(llama, torch.zeros(3, 16))
    with pytest.raises(PatchFormatError, match=r"\[1, 3, 32\]"):
        compile_prefix(llama, torch.zeros(1, 3, 32))


def test_patches_of_mixed_widths_are_refused_by_name(llama: Backbone) -> None:
    fits, narrow = make_patch(llama, "fits", length=3), make_patch(llama, "narrow", length=3)
    manifest = dataclasses.replace(narrow.manifest, width=16)
    narrow = Patch(manifest, narrow.prefix[:, :16])
    for patches in ([narrow], [fits, narrow], [narrow, fits]):
        with pytest.raises(PatchFormatError, match=r"\[3, 16\] in patch narrow 1\.0\.0; expected \[P, D\] with D=32"):
            Bank(llama).segment(patches)


def test_a_patch_that_overflows_is_refused_before_it_spoils_the_rows_beside_it() -> None:
    model = make_model("llama", vocabulary=len(byte_level())).half()
    backbone = Backbone(model, byte_level(), name="half")
    large = make_patch(backbone, "large", length=3)
    large = Patch(large.manifest, large.prefix * 1e6)
    with pytest.raises(PatchFormatError, match=r"large 1\.0\.0.*overflow in torch\.float16; expected finite numbers"):
        Bank(backbone).segment([large])


def test_a_stack_longer_than_the_context_is_refused_before_it_is_compiled() -> None:
    backbone = make_backbone("gpt2")  # its learned positions have no place for more
    with pytest.raises(ContextError, match=f"{CONTEXT + 4} positions.*at most {CONTEXT}"):
        Bank(backbone).segment([make_patch(backbone, "a", length=4), make_patch(backbone, "b", length=CONTEXT)])
