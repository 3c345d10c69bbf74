"""Plans: versions, strengths, modes and warnings of a stack on a base, from what is installed at that moment."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_models import CONTEXT, make_backbone, make_patch, put
from made_rows import cell, change, known, pair

import patchlab
from patchlab.engine import BARE, Bank, Planner, StackPlan, blend
from patchlab.engine.forward_rows import Part
from patchlab.errors import BaseMismatchError, ContextError, NotFoundError, StackError
from patchlab.models import Backbone
from patchlab.patches import Patch, Stack
from patchlab.patches.interactions import save_interactions
from patchlab.records import Prompt
from patchlab.registry import Registry

PROMPTS = [Prompt("hello"), Prompt("and who are you?")]


@pytest.fixture
def planner(tmp_path: Path, llama: Backbone) -> Planner:
    """Of the patches calm (strength 0.5), kind, and one, named alien, that was made for another base."""
    put(make_patch(llama, "calm", length=4, strength=0.5), tmp_path)
    put(make_patch(llama, "kind", length=6), tmp_path)
    put(make_patch(make_backbone("llama", seed=1), "alien", length=4), tmp_path)
    return Planner(llama, Registry([tmp_path]))


def parts(plan: StackPlan) -> tuple[Part, ...]:
    """What stands side by side in a plan of one forward row."""
    [row] = plan.rows
    return row.parts


def shape(plan: StackPlan) -> list[tuple[int, float]]:
    """The slots and the strength of each segment of each forward row."""
    return [(segment.length, strength) for row in plan.rows for segment, strength in row.parts]


def test_a_stack_becomes_segments_with_its_strengths(planner: Planner) -> None:
    plan = planner.plan(Stack.parse("kind:2,calm"))
    assert sorted(shape(plan)) == [(4, 0.5), (6, 2.0)]
    assert [(one.name, one.strength) for one in plan.patches] == [("kind", 2.0), ("calm", 0.5)]
    assert parts(plan) == parts(planner.plan(Stack.parse("calm,kind:2")))  # in any order, to the bit
    for off in ("none", "calm:0,kind:0"):
        assert planner.plan(Stack.parse(off)).rows == BARE.rows
    half = planner.plan(Stack.parse("calm:0,kind"))
    assert shape(half) == [(6, 1.0)] and [(one.name, one.strength) for one in half.patches] == [("calm", 0.0), ("kind", 1.0)]
    sequence = planner.plan(Stack.parse("kind:1,calm:1", mode="sequential"))
    assert shape(sequence) == [(10, 1.0)]
    joint = Bank(planner.base).segment([planner.patch("kind"), planner.patch("calm")])
    assert all(torch.equal(a, b) for a, b in zip(parts(sequence)[0][0].keys, joint.keys, strict=True))


def test_a_blend_is_the_same_segments_apart(planner: Planner) -> None:
    plan = planner.plan(Stack.parse("kind:2,calm", mode="blend"))
    assert plan.rows == blend(parts(planner.plan(Stack.parse("kind:2,calm"))))
    assert plan.rows == planner.plan(Stack.parse("calm,kind:2", mode="blend")).rows
    assert planner.plan(Stack.parse("none", mode="blend")).rows == BARE.rows


def test_toggling_and_turning_strengths_compile_each_patch_once(planner: Planner) -> None:
    for text in ("calm", "kind", "calm,kind", "kind,calm:0", "calm:0.1", "none", "calm:4,kind:0.5"):
        planner.plan(Stack.parse(text))
    assert planner.bank.compilations == 2


def test_a_sequence_has_the_mean_of_the_calibrated_strengths_unless_one_is_given(planner: Planner) -> None:
    def planned(text: str) -> list[tuple[int, float]]:
        return shape(planner.plan(Stack.parse(text, mode="sequential")))

    assert planned("calm,kind") == [(10, pytest.approx((0.5 * 1.0) ** 0.5, abs=0.005))]
    assert planned("calm") == [(4, 0.5)]
    assert planned("calm:0.3,kind:0.3") == planned("calm:0.3,kind") == planned("calm,kind:0.3") == [(10, 0.3)]
    # at 0 a patch is off, and has no say in the strength of the others
    assert planned("calm,kind:0") == planned("kind:0,calm") == [(4, 0.5)]
    plan = planner.plan(Stack.parse("kind:0,calm:0.7", mode="sequential"))
    assert [(one.name, one.strength) for one in plan.patches] == [("kind", 0.0), ("calm", 0.7)]


def test_prompts_for_which_a_stack_resolves_alike_share_one_plan(planner: Planner) -> None:
    one, other = planner.plans(Stack.parse("calm,kind"), PROMPTS)
    assert one is other and planner.plans(Stack.parse("calm"), []) == []


@pytest.mark.parametrize(("versions", "newest"), [
    (["1.0.0", "1.10.0", "1.9.0"], "1.10.0"), (["1.0.0", "2.0.0-rc.1"], "1.0.0"), (["1.0.0-rc.2", "1.0.0-rc.10"], "1.0.0-rc.10"),
    (["1.0.0-rc.1", "1.0.0"], "1.0.0")])
def test_one_order_of_versions_decides_everywhere(llama: Backbone, tmp_path: Path, versions: list[str], newest: str) -> None:
    """A pre-release counts only where there is no release; the newest of another base does not count at all."""
    for k, version in enumerate(versions):
        put(make_patch(llama, "calm", length=3 + k, strength=1 + k), tmp_path, version=version)
    put(make_patch(make_backbone("llama", seed=1), "calm", length=9), tmp_path, version="9.0.0")
    planner, at = Planner(llama, Registry([tmp_path])), versions.index(newest)
    assert [one.manifest.version for one in planner.installed()] == [newest]
    assert planner.patch("calm").manifest.version == newest
    for mode in ("parallel", "sequential", "blend"):
        plan = planner.plan(Stack.parse("calm", mode=mode))  # type: ignore[arg-type]
        assert shape(plan)[-1] == (3 + at, 1.0 if mode == "blend" else 1 + at)
        assert [one.patch.manifest.version for one in plan.patches] == [newest]
    for k, version in enumerate(versions):
        assert shape(planner.plan(Stack.parse(f"calm@{version}"))) == [(3 + k, 1.0 + k)]
    with pytest.raises(NotFoundError, match=r"version of 'calm' '3\.0\.0'"):
        planner.plan(Stack.parse("calm@3.0.0"))
    with pytest.raises(BaseMismatchError, match=r"calm 9\.0\.0"):
        planner.plan(Stack.parse("calm@9.0.0"))


def test_installed_are_the_patches_that_fit(planner: Planner, tmp_path: Path) -> None:
    put(make_patch(planner.base, "calm", length=4), tmp_path, version="1.10.0")
    assert {each.manifest.name: each.manifest.version for each in planner.installed()} == {"calm": "1.10.0", "kind": "1.0.0"}


def test_what_changes_on_disk_is_seen_at_the_next_plan(planner: Planner, tmp_path: Path) -> None:
    """A version installed, other bytes under the same version, one deleted; nothing of before is served."""
    before = planner.plan(Stack.parse("calm"))
    assert shape(before) == [(4, 0.5)]
    put(make_patch(planner.base, "calm", length=7, strength=2.0), tmp_path, version="1.1.0")
    assert shape(planner.plan(Stack.parse("calm"))) == [(7, 2.0)]
    put(make_patch(planner.base, "calm", length=7, strength=2.0, seed=99), tmp_path, version="1.1.0")
    [(replaced, _)] = parts(planner.plan(Stack.parse("calm")))
    assert replaced.length == 7 and planner.bank.compilations == 3
    put(make_patch(planner.base, "calm", length=7, strength=3.0, seed=99), tmp_path, version="1.1.0")
    assert parts(planner.plan(Stack.parse("calm"))) == ((replaced, 3.0),)  # only its manifest is another: compiled as it is
    shutil.rmtree(tmp_path / "calm-1.1.0")
    assert parts(planner.plan(Stack.parse("calm"))) == parts(before)
    shutil.rmtree(tmp_path / "calm-1.0.0")
    with pytest.raises(NotFoundError, match="'calm'"):
        planner.plan(Stack.parse("calm"))
    assert [one.manifest.name for one in planner.installed()] == ["kind"]


def test_what_cannot_be_planned_is_refused(planner: Planner, tmp_path: Path) -> None:
    for call in (planner.plan, lambda stack: planner.plan(stack, PROMPTS[0])):
        with pytest.raises(StackError, match=r"a str for a stack; .* Stack\.parse"):
            call("calm")  # type: ignore[arg-type]
    with pytest.raises(BaseMismatchError, match=r"alien 1\.0\.0"):
        planner.plan(Stack.parse("alien:0"))
    with pytest.raises(NotFoundError, match="'calm'"):
        planner.plan(Stack.parse("clam"))
    for name in ("long", "longer"):
        put(make_patch(planner.base, name, length=CONTEXT // 2), tmp_path)
    with pytest.raises(ContextError, match=f"{CONTEXT + 4} positions needed by the patch alone"):
        planner.plan(Stack.parse("long:1,longer:1,calm:1", mode="sequential"))
    assert planner.plan(Stack.parse("long,longer,calm")).start == CONTEXT // 2  # side by side: no more than the longest


def measured(folder: Path, one: Patch, other: Patch) -> None:
    """Write that two patches, as they are in a folder, lose much of their effect together."""
    first, second = (Patch.from_pretrained(folder / patch.manifest.folder_name).manifest for patch in (one, other))
    lost = cell("toxicity", "toxic_rate", f"{first.name}@1.0.0", than=change(-30.0, -40.0, -20.0, against=f"{first.name}@1.0.0"))
    save_interactions(known([pair(first, second, lost)], first, second), folder / "interactions.json")


def test_warnings_are_of_this_base_and_of_patches_that_are_on(llama: Backbone, tmp_path: Path) -> None:
    """Two patches of each base have the same names; those of the other are known to fight, and declare a conflict."""
    other, mine, theirs = make_backbone("llama", seed=1), tmp_path / "mine", tmp_path / "theirs"
    for name in ("calm", "kind"):
        put(make_patch(llama, name, length=3), mine)
    pair_of_other = [put(make_patch(other, name, length=3), theirs, conflicts=("kind",) if name == "calm" else ())
                     for name in ("calm", "kind")]
    measured(theirs, *pair_of_other)
    registry = Registry([mine, theirs])
    quiet, loud = Planner(llama, registry), Planner(other, registry)
    assert quiet.plan(Stack.parse("calm,kind")).warnings == ()
    told = loud.plan(Stack.parse("calm,kind")).warnings
    assert len(told) == 2 and "should not be on together" in told[0] and "known to fight side by side" in told[1]
    for stack in ("calm", "kind", "calm,kind:0", "calm:0,kind"):
        assert loud.plan(Stack.parse(stack)).warnings == ()
    assert len(loud.plan(Stack.parse("calm,kind", mode="blend")).warnings) == 1  # measured side by side only
    gated = loud.plans(Stack.parse("calm,kind", gates=True), PROMPTS)[0].warnings
    assert len(gated) == 1 and "should not be" in gated[0]  # pairs were measured with both on for every prompt
    (theirs / "interactions.json").write_text("{", encoding="utf-8")
    assert any("interactions.json cannot be used" in line for line in loud.plan(Stack.parse("calm,kind")).warnings)


def test_a_patch_of_another_chat_template_is_told_where_it_is_on(llama: Backbone, tmp_path: Path) -> None:
    identity = replace(llama.identity, template_digest="c" * 64)
    put(make_patch(llama, "calm", length=3, base=identity), tmp_path)
    planner = Planner(llama, Registry([tmp_path]))
    [told] = planner.plan(Stack.parse("calm")).warnings
    assert "calm 1.0.0" in told and "another chat template" in told
    assert planner.plan(Stack.parse("calm:0")).warnings == ()


def test_only_plans_look_patches_up() -> None:
    """One place decides which version of a patch is meant: nobody else calls what finds and loads them.

    Verbs may show a patch before any model is loaded, by `lookup`.
    """
    root = Path(patchlab.__file__).parent
    code = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in root.rglob("*.py")}

    def callers(pattern: str) -> set[str]:
        return {name for name, text in code.items() if not name.startswith("registry/") and re.search(pattern, text)}

    assert callers(r"(?i)registry\w*(\(.*?\))?\.(find|load|newest_for)\(") == {"engine/plan.py"}
    assert {name.split("/")[0] for name in callers(r"\blookup\(")} <= {"cli"}
