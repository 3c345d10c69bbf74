"""Fitting gates: the same prompts give the same gate, dev prompts set its threshold, and bad input is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from drained import returned

from patchlab.engine import Lab
from patchlab.engine.gates import states
from patchlab.errors import InputError, ModelError, NotFoundError, TrainingError
from patchlab.patches import Gate, Patch, Stack
from patchlab.records import Prompt
from patchlab.training import gates
from patchlab.training.gates import fit_gate, threshold
from patchlab.training.release import release

ANGRY = [Prompt(f"the bus is {word}! Both of them", "continue", "toxicity") for word in
         ("late", "red", "slow", "full", "loud", "old", "cold", "here", "gone", "lost", "wet", "mine")]
CALM = [Prompt(f"how do i {word} bread?", "chat", "benign") for word in
        ("bake", "cut", "buy", "sell", "keep", "toast", "make", "warm", "eat", "slice", "share", "store")]
TRAIN, DEV = [*ANGRY[:8], *CALM[:8]], [*ANGRY[8:], *CALM[8:]]


def fitted(lab: Lab, **options: Any) -> Any:
    return returned(fit_gate(lab.base, "toxicity", TRAIN, DEV, **options))


def skipped(lab: Lab, gate: Gate) -> list[tuple[str, ...]]:
    """What the engine leaves off for each calibration prompt, where the installed patch has this gate."""
    dataclasses.replace(lab.planner.patch("mate"), gate=gate).save_pretrained(lab.registry.folders[0] / "mate-1.0.0")
    return [plan.skipped for plan in lab.planner.plans(dataclasses.replace(Stack.parse("mate"), gates=True), DEV)]


def test_a_gate_tells_its_prompts_from_others_and_is_the_same_again(lab: Lab) -> None:
    found = fitted(lab)
    assert found.gate == fitted(lab).gate
    assert (found.missed, found.own, found.kept, found.others) == (0, 4, 0, 4)
    assert skipped(lab, found.gate) == [()] * 4 + [("mate",)] * 4  # what was counted in 64 bits is what the engine decides


def test_states_are_read_once_for_the_same_prompts(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "states.safetensors"
    first, reads = fitted(lab, cache=cache), []
    monkeypatch.setattr(gates, "states", lambda *given: reads.append(given) or states(*given))
    assert fitted(lab, cache=cache).gate == first.gate and not reads
    more = [*DEV, Prompt("how do i freeze bread?", "chat", "benign")]
    assert returned(fit_gate(lab.base, "toxicity", TRAIN, more, cache=cache)).others == 5
    assert [len(prompts) for _, prompts, _ in reads] == [1], "those of another prompt are read"


def test_it_does_not_depend_on_the_order_of_prompts(lab: Lab) -> None:
    turned = returned(fit_gate(lab.base, "toxicity", TRAIN[::-1], DEV[::-1]))
    assert turned.gate.layer == fitted(lab).gate.layer
    assert turned.gate.weight == pytest.approx(fitted(lab).gate.weight, abs=1e-4)


@pytest.mark.parametrize(("own", "others", "missed", "kept", "expected"), [
    ([3, 4, 5], [0, 1, 2], 0.0, 0.0, 2.5),  # room between: recall first, just above the others
    ([1, 4, 5], [0, 2, 3], 0.0, 0.0, 0.5),  # no room: no own prompt is missed, whatever others are kept
    ([1, 4, 5, 6], [0, 2, 3], 0.25, 0.0, 3.5),  # one own prompt in four may be
    ([8, 9], [0, 1, 2, 3], 0.0, 0.5, 1.5),  # half of the others may be kept, so the threshold falls among them
    ([0, 1], [2, 3], 0.0, 0.0, -1.0),  # nothing below to divide from
    ([1, 1], [1, 1], 0.0, 0.0, 0.0),
])
def test_the_threshold_is_recall_first(own: list[float], others: list[float], missed: float, kept: float,
                                       expected: float) -> None:
    at = threshold(own, others, missed=missed, kept=kept)
    assert at == expected
    assert sum(score < at for score in own) <= missed * len(own)


def test_prompts_of_one_kind_only_are_refused(lab: Lab) -> None:
    for prompts, dev, what in ((ANGRY, DEV, "training"), (CALM, DEV, "training"), (TRAIN, CALM, "calibration"),
                               (TRAIN, [], "calibration")):
        with pytest.raises(TrainingError, match=f"{what} prompts of domain toxicity"):
            returned(fit_gate(lab.base, "toxicity", prompts, dev))
    with pytest.raises(InputError, match="say by improves"):
        returned(fit_gate(lab.base, "toxicty", TRAIN, DEV))
    with pytest.raises(NotFoundError, match="did you mean 'benign'"):
        returned(fit_gate(lab.base, "house-style", TRAIN, DEV, improves=("toxicity", "benin")))


def test_a_patch_of_a_domain_of_its_own_says_what_it_improves(lab: Lab) -> None:
    """Both kinds of prompts can be the ones it is for, and together they leave no others."""
    found = returned(fit_gate(lab.base, "house-style", TRAIN, DEV, improves=("benign",)))
    assert skipped(lab, found.gate) == [("mate",)] * 4 + [()] * 4
    with pytest.raises(TrainingError, match="16 of 16 training prompts of domain benign or toxicity"):
        returned(fit_gate(lab.base, "toxicity", TRAIN, DEV, improves=("benign", "toxicity")))


def test_a_base_with_embeddings_of_another_width_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.base.model.config, "hidden_size", 31)
    with pytest.raises(ModelError, match="31 wide"):
        fitted(lab)


def test_a_released_patch_keeps_its_gate(lab: Lab, tmp_path: Any) -> None:
    patch = dataclasses.replace(lab.planner.patch("mate"), gate=fitted(lab).gate)
    assert Patch.from_pretrained(release(patch, tmp_path / "out")).gate == patch.gate
