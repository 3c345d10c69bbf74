"""Which patches are on while another trains, and how they are combined with it."""

from __future__ import annotations

import pytest
import torch
from made_models import make_patch

from patchlab.engine import Lab, Segment, compile_prefix
from patchlab.engine.forward_rows import Part
from patchlab.training.companions import Companions, StepCompanions

STEPS = range(40)
Mates = list[tuple[torch.Tensor, float]]


@pytest.fixture
def mates(lab: Lab) -> Mates:
    return [(torch.from_numpy(make_patch(lab.base, name, length=length).prefix.copy()), 1.0)
            for name, length in (("mate", 3), ("pal", 2))]


@pytest.fixture
def own(lab: Lab) -> torch.Tensor:
    return torch.from_numpy(make_patch(lab.base, "own", length=4).prefix.copy()).requires_grad_(True)


def strong(mates: Mates) -> Mates:
    return [(prefix, strength) for (prefix, _), strength in zip(mates, (2.0, 0.5), strict=True)]


def parts(present: StepCompanions, compiled: Segment) -> tuple[Part, ...]:
    return present.plan(compiled).rows[0].parts


def alike(one: Segment, other: Segment) -> bool:
    return one.length == other.length and all(map(torch.allclose, one.keys, other.keys))


def test_side_by_side_the_patch_is_on_with_those_that_are_present(lab: Lab, mates: Mates,
                                                                     own: torch.Tensor) -> None:
    companions = Companions(lab.base, mates, seed=1)
    alone = compile_prefix(lab.base, own)
    seen = [companions.at(step) for step in STEPS]
    assert {tuple(s.length for s, _ in parts(each, alone)) for each in seen} == {(4,), (4, 3), (4, 2), (4, 3, 2)}
    for each in seen:
        assert parts(each, alone) == ((alone, 1.0), *each.segments) and each.joined(own) is own
        assert each.alone.rows[0].parts == each.segments and len(each.chosen) == len(each.segments)


def test_companions_are_on_at_the_strength_they_were_released_with(lab: Lab, mates: Mates,
                                                                   own: torch.Tensor) -> None:
    companions = Companions(lab.base, strong(mates), seed=1, strength=1.5)
    alone = compile_prefix(lab.base, own)
    seen = {(segment.length, strength) for step in STEPS for segment, strength in parts(companions.at(step), alone)}
    assert seen == {(4, 1.5), (3, 2.0), (2, 0.5)}


def test_a_sequence_has_the_strength_a_stack_would_give_it(lab: Lab, mates: Mates,
                                                               own: torch.Tensor) -> None:
    companions = Companions(lab.base, strong(mates), seed=1, strength=2.0, in_sequence=1.0)
    seen = set()
    for step in STEPS:
        present = companions.at(step)
        [(segment, strength)] = parts(present, compile_prefix(lab.base, present.joined(own)))
        seen.add((segment.length, strength))
    assert seen == {(4, 2.0), (7, 2.0), (6, 1.0), (9, 1.26)}


def test_in_sequence_all_are_one_segment_with_the_patch_at_any_place(lab: Lab, mates: Mates,
                                                                     own: torch.Tensor) -> None:
    companions = Companions(lab.base, mates, seed=1, in_sequence=1.0)
    (first, _), (second, _) = mates
    orders = {"alone": [own], "1": [own, first], "1b": [first, own], "2": [own, second], "2b": [second, own],
              "12": [own, first, second], "12b": [first, own, second], "12c": [first, second, own],
              "21": [own, second, first], "21b": [second, own, first], "21c": [second, first, own]}
    joint = {name: compile_prefix(lab.base, torch.cat(order)) for name, order in orders.items()}
    found = set()
    for step in range(120):
        present = companions.at(step)
        [(segment, strength)] = parts(present, compile_prefix(lab.base, present.joined(own)))
        found |= {name for name, each in joint.items() if alike(segment, each)}
        assert strength == 1.0 and sum(s.length for s, _ in present.segments) == segment.length - 4
    assert found == set(joint)


@pytest.mark.parametrize("in_sequence", [0.0, 1.0])
def test_gradients_reach_the_patch_and_nothing_else(lab: Lab, mates: Mates, own: torch.Tensor,
                                                    in_sequence: float) -> None:
    companions = Companions(lab.base, mates, seed=1, in_sequence=in_sequence)
    for step in STEPS:
        present = companions.at(step)
        assert not any(s.keys[-1].requires_grad for s, _ in present.segments)
        found = parts(present, compile_prefix(lab.base, present.joined(own)))
        [grad] = torch.autograd.grad(sum(s.keys[-1].square().sum() for s, _ in found), [own])
        assert grad.abs().sum() > 0


def test_by_number_few_of_many_companions_are_seen_as_often_as_many(lab: Lab, mates: Mates) -> None:
    companions = Companions(lab.base, mates * 4, seed=1, presence="number")
    seen = [len(companions.at(step).segments) for step in range(360)]
    counts = [seen.count(number) for number in range(9)]
    assert min(counts) > 20 and max(counts) < 70


def test_a_distance_is_left_in_half_of_the_steps_and_changes_no_choice(lab: Lab, mates: Mates,
                                                                       own: torch.Tensor) -> None:
    near, far = (Companions(lab.base, mates, seed=1, in_sequence=0.3, distance=distance) for distance in (0, 6))
    alone = compile_prefix(lab.base, own)
    rooms = []
    for step in range(400):
        present, same = far.at(step), near.at(step)
        assert len(present.segments) == len(same.segments) and present.sequence == same.sequence
        assert same.distance == 0
        if not present.sequence:
            (segment, strength), *others = parts(present, alone)
            rooms.append(segment.room)
            assert strength == 1.0 and segment.keys is alone.keys and tuple(others) == present.segments
    assert set(rooms) == set(range(7)) and 0.4 < rooms.count(0) / len(rooms) < 0.6
