"""The trio: stacks become parts of the bank, lanes stay a list in one order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from made_models import CONTEXT, make_backbone, make_patch

from patchlab.engine import Bank, Blend, Sampling, Trio, load_trio
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import BaseMismatchError, ContextError, InputError, NotFoundError, StackError
from patchlab.models import Preset
from patchlab.patches import Stack
from patchlab.patches.stack import MODES
from patchlab.records import Prompt
from patchlab.registry import Registry

BRIEF = Sampling(temperature=1.0, max_new_tokens=8, seed=5)
PROMPTS = [Prompt("hello"), Prompt("and who are you?")]


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """A trio with the patches calm (strength 0.5), kind, and one, named alien, that was made for another base."""
    base, other = make_backbone("llama"), make_backbone("llama", seed=1)
    for patch in (make_patch(base, "calm", length=4, strength=0.5), make_patch(base, "kind", length=6),
                  make_patch(other, "alien", length=4)):
        patch.save_pretrained(tmp_path / patch.manifest.folder_name)
    reference = make_backbone("mistral", words="byte_fallback")
    return Trio(base, reference, registry=Registry([tmp_path]), preset=Preset("tiny", "Tiny", "a", "b", "made"))


def test_a_stack_becomes_parts_with_its_strengths(trio: Trio) -> None:
    parts = trio.parts(Stack.parse("kind:2,calm"))
    assert {(segment.length, strength) for segment, strength in parts} == {(6, 2.0), (4, 0.5)}
    assert parts == trio.parts(Stack.parse("calm,kind:2"))  # in any order, to the bit
    assert trio.parts(Stack.parse("none")) == () == trio.parts(Stack.parse("calm:0,kind:0"))
    sequence = trio.parts(Stack.parse("kind:1,calm:1", mode="sequential"))
    assert [(segment.length, strength) for segment, strength in sequence] == [(10, 1.0)]
    joint = Bank(trio.base).segment([trio.patch("kind"), trio.patch("calm")])
    assert all(torch.equal(a, b) for a, b in zip(sequence[0][0].keys, joint.keys, strict=True))


def test_a_blend_is_the_same_segments_apart(trio: Trio) -> None:
    blend = trio.parts(Stack.parse("kind:2,calm", mode="blend"))
    assert isinstance(blend, Blend) and blend.parts == trio.parts(Stack.parse("kind:2,calm"))
    texts = {order: [r.text for r in trio.replies(PROMPTS, stack=Stack.parse(order, mode="blend"), sampling=BRIEF)]
             for order in ("kind,calm:1", "calm:1,kind", "none")}
    assert texts["kind,calm:1"] == texts["calm:1,kind"] != texts["none"]
    assert texts["none"] == [r.text for r in trio.replies(PROMPTS, stack=Stack.parse("none"), sampling=BRIEF)]


def test_toggling_and_turning_strengths_compile_each_patch_once(trio: Trio) -> None:
    for text in ("calm", "kind", "calm,kind", "kind,calm:0", "calm:0.1", "none", "calm:4,kind:0.5"):
        trio.parts(Stack.parse(text))
    assert trio.bank.compilations == 2


def test_a_sequence_has_the_mean_of_the_calibrated_strengths_unless_one_is_given(trio: Trio) -> None:
    own = [trio.patch(name).manifest.strength for name in ("calm", "kind")]
    [(_, strength)] = trio.parts(Stack.parse("calm,kind", mode="sequential"))
    assert strength == pytest.approx((own[0] * own[1]) ** 0.5, abs=0.005) != own[0]
    [(_, strength)] = trio.parts(Stack.parse("calm", mode="sequential"))
    assert strength == own[0]
    [(_, strength)] = trio.parts(Stack.parse("calm:0.3,kind:0.3", mode="sequential"))
    assert strength == 0.3
    [(segment, strength)] = trio.parts(Stack.parse("calm:0.3,kind", mode="sequential"))
    assert strength == 0.3 and segment.length == sum(trio.patch(name).manifest.length for name in ("calm", "kind"))
    for off in ("calm,kind:0", "kind:0,calm"):  # at 0 a patch is off, and has no say in the strength of the others
        [(segment, strength)] = trio.parts(Stack.parse(off, mode="sequential"))
        assert strength == own[0] and segment.length == trio.patch("calm").manifest.length


def test_what_is_no_stack_no_lane_and_no_number_of_samples_is_said(trio: Trio) -> None:
    with pytest.raises(StackError, match=r"a str for a stack; .* Stack\.parse"):
        trio.parts("calm")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="patched"):
        trio.replies(PROMPTS, stack=Stack(), lanes=["pached"])
    with pytest.raises(InputError, match="0 samples"):
        trio.replies(PROMPTS, stack=Stack(), samples=0)


def test_more_than_the_context_can_carry_is_refused_before_the_first_step(trio: Trio, tmp_path: Path) -> None:
    for name in ("long", "longer"):
        patch = make_patch(trio.base, name, length=CONTEXT // 2)
        patch.save_pretrained(tmp_path / patch.manifest.folder_name)
    with pytest.raises(ContextError, match=f"{CONTEXT + 4} positions needed by the patch alone"):
        trio.stream(PROMPTS, stack=Stack.parse("long:1,longer:1,calm:1", mode="sequential"))
    both = Sampling(max_new_tokens=CONTEXT // 2)
    for mode in MODES[::2]:  # side by side they take no more positions than the longest
        with pytest.raises(ContextError, match=f"{CONTEXT // 2} for the patch"):
            trio.stream(PROMPTS, stack=Stack.parse("long,longer", mode=mode), sampling=both)
        assert trio.replies(PROMPTS[:1], stack=Stack.parse("long,longer,kind", mode=mode), sampling=BRIEF)
    texts = pad_texts(trio.base, [(list(range(3, 30)), list(range(3, 30)))])
    with pytest.raises(ContextError, match="48 for the patch"):
        reply_logits(trio.base, texts, trio.parts(Stack.parse("long")))


def test_installed_are_the_patches_that_fit(trio: Trio, tmp_path: Path) -> None:
    newer = make_patch(trio.base, "calm", length=4)
    newer = dataclasses.replace(newer, manifest=dataclasses.replace(newer.manifest, version="1.10.0"))
    newer.save_pretrained(tmp_path / "calm-1.10.0")
    found = {each.manifest.name: each.manifest.version for each in trio.installed()}
    assert found == {"calm": "1.10.0", "kind": "1.0.0"}


def test_what_cannot_be_stacked_is_refused_before_the_first_step(trio: Trio) -> None:
    with pytest.raises(BaseMismatchError, match=r"alien 1\.0\.0"):
        trio.stream(PROMPTS, stack=Stack.parse("alien"))
    with pytest.raises(NotFoundError, match="'calm'"):
        trio.stream(PROMPTS, stack=Stack.parse("clam"))
    with pytest.raises(NotFoundError):
        load_trio("pockte")


def test_lanes_stay_in_order_and_only_the_patched_one_changes(trio: Trio) -> None:
    off = trio.replies(PROMPTS, stack=Stack.parse("none"), samples=2, sampling=BRIEF)
    on = trio.replies(PROMPTS, stack=Stack.parse("calm:1,kind"), samples=2, sampling=BRIEF)
    for found in (off, on):
        assert [(r.lane, r.row) for r in found] == [(lane, row) for lane in trio.lanes for row in range(4)]
    text = {lane: [[r.text for r in found if r.lane == lane] for found in (off, on)] for lane in trio.lanes}
    assert text["base"][0] == text["base"][1] == text["patched"][0] != text["patched"][1]
    assert text["reference"][0] == text["reference"][1]
    some = trio.replies(PROMPTS, stack=Stack.parse("calm:1,kind"), samples=2, sampling=BRIEF, lanes=("patched",))
    assert [r.text for r in some] == text["patched"][1]
