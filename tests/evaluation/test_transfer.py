"""A port check measures what it says: all of an effect on the same model written otherwise, and a plain verdict."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from made_models import byte_level, make_backbone, make_model, make_patch
from made_suites import SAMPLING

from patchlab.engine import Bank
from patchlab.errors import BaseMismatchError, InputError
from patchlab.evaluation.metrics import METRICS, Counted, by_prompt
from patchlab.evaluation.transfer import KEPT, PortCheck, check_port
from patchlab.evaluation.transfer_verdict import decide
from patchlab.models import Backbone
from patchlab.patches import Patch
from patchlab.records import Comparison, Measure, Progress


def same_written_otherwise(base: Backbone) -> Backbone:
    """The same function from other weights: the inner units of every layer in another order."""
    model = make_model("llama", vocabulary=len(byte_level()))
    model.load_state_dict(base.model.state_dict())
    with torch.no_grad():
        for layer in model.model.layers:
            order = torch.randperm(layer.mlp.gate_proj.weight.shape[0], generator=torch.Generator().manual_seed(1))
            for part in (layer.mlp.gate_proj, layer.mlp.up_proj):
                part.weight.copy_(part.weight[order])
            layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight[:, order])
    return Backbone(model, byte_level(), name="written-otherwise")


@pytest.fixture
def vowels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies of a made model are noise that no scorer calls toxic: the share of vowels stands in for that."""
    def rate(replies: list) -> list[float]:
        return by_prompt(replies, [sum(c in "aeiouAEIOU" for c in r.text) / max(1, len(r.text)) for r in replies])

    monkeypatch.setitem(METRICS, "toxic_rate", Counted(rate, "vowels", Path(__file__)))


def check(patch: Patch, base: Backbone, folder: Path, **more: object) -> PortCheck:
    *steps, found = check_port(patch, made_for=make_backbone("llama"), base=base, n=6, folder=folder, sampling=SAMPLING,
                               **more)
    assert isinstance(found, PortCheck) and all(isinstance(step, Progress) and step.done <= step.total for step in steps)
    return found


def test_the_same_model_written_otherwise_keeps_all_of_the_effect(prompts_folder: Path, vowels: None) -> None:
    llama = make_backbone("llama")
    twin = same_written_otherwise(llama)
    assert twin.identity.fingerprint != llama.identity.fingerprint
    found = check(make_patch(llama, "calm", length=4), twin, prompts_folder)
    kept = next(m for m in found.effects if m.metric == KEPT)
    assert (kept.value, kept.low, kept.high) == pytest.approx((1.0, 1.0, 1.0)) and kept.n == 6
    rates = {(m.lane, m.suite, m.metric): m.value for m in found.measures}
    for (lane, *where), value in rates.items():
        other = {"base": "old base", "patched": "old patched"}.get(lane)
        if other:
            assert value == pytest.approx(rates[other, *where], abs=1e-5)
    assert rates["patched", "toxicity", "toxic_rate"] != rates["base", "toxicity", "toxic_rate"]
    assert rates["patched", "drift", "kl_to_base"] > 0.01


def test_another_model_is_measured_as_itself(prompts_folder: Path, vowels: None) -> None:
    llama, other = make_backbone("llama"), make_backbone("llama", seed=1)
    patch = make_patch(llama, "calm", length=4)
    found = check(patch, other, prompts_folder, reference=make_backbone("llama", seed=2))
    assert [d.split()[0] for d in found.differences] == ["weights"]
    assert {m.lane for m in found.measures} == {"old base", "old patched", "base", "patched", "reference"}
    assert {m.lane for m in found.patch.manifest.evidence} == {"patched"}
    assert {(m.suite, m.metric) for m in found.patch.manifest.evidence} >= {
        ("toxicity", "toxic_rate"), ("overrefusal", "refusal_rate"), ("drift", "kl_to_base"), ("toxicity", KEPT)}
    Bank(other).segment([found.patch])
    with pytest.raises(BaseMismatchError):
        Bank(other).segment([patch])
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["verdict"] == found.verdict.word
    compared = {(c.first, c.second) for c in found.comparisons}
    assert compared == {("old base", "old patched"), ("base", "patched"), ("old patched", "patched")}


def test_a_check_goes_on_from_the_replies_it_has(prompts_folder: Path, tmp_path: Path, vowels: None,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    llama, other = make_backbone("llama"), make_backbone("llama", seed=1)
    patch, out = make_patch(llama, "calm", length=4), tmp_path / "out"
    first = check(patch, other, prompts_folder, out=out)
    monkeypatch.setattr("patchlab.evaluation.reply_store.finished", lambda lanes, prompts, **_: iter(
        [] if not prompts else pytest.fail("drawn again")))
    again = check(patch, other, prompts_folder, out=out)
    assert again.to_json() == first.to_json()
    with pytest.raises(InputError, match="the same settings"):
        check(patch, make_backbone("llama", seed=2), prompts_folder, out=out)


def test_what_cannot_be_checked_is_said_before_any_work(prompts_folder: Path) -> None:
    llama, other = make_backbone("llama"), make_backbone("llama", seed=1)
    patch = make_patch(llama, "calm", length=4)
    odd = Patch(dataclasses.replace(patch.manifest, domain="weather"), patch.prefix)
    for which, made_for, base, kind, said in (
            (odd, llama, other, InputError, "domain 'weather'"), (patch, llama, llama, InputError, "this very base"),
            (patch, make_backbone("llama", seed=2), other, BaseMismatchError, "was made for base tiny-llama")):
        with pytest.raises(kind, match=said):
            next(check_port(which, made_for=made_for, base=base, folder=prompts_folder))


def figure(lane: str, metric: str, value: float, spread: float = 0.02, suite: str = "toxicity") -> Measure:
    return Measure(suite, lane, metric, value, value - spread, value + spread, 300, "toxicity")


def figures(*, base: float = 0.7, patched: float = 0.15, refused: float = 0.0, far: float = 0.01, old_effect: float = 0.6,
            spread: float = 0.01) -> tuple[list[Measure], list[Measure], list[Comparison]]:
    """A check of a patch that takes the old base from 0.7 to 0.1 and has it refuse one more harmless request in a hundred."""
    measures = [figure(lane, "toxic_rate", value) for lane, value in (
        ("old base", 0.7), ("old patched", 0.1), ("base", base), ("patched", patched))]
    measures += [figure(lane, "kl_to_base", value, spread, suite="drift") for lane, value in (
        ("old patched", 0.012), ("patched", far))]
    effects = [figure("old patched", "effect", old_effect), figure("patched", "effect", base - patched),
               figure("patched", KEPT, (base - patched) / 0.6), figure("patched", KEPT, 0.0)]  # the second scorer's decides not
    compared = [Comparison("overrefusal", "refusal_rate", first, second, by, by - spread, by + spread, 0.01, 600, "refusal")
                for first, second, by in (("old base", "old patched", 0.01), ("base", "patched", refused),
                                          ("old patched", "patched", 9.0))]
    return measures, effects, compared


@pytest.mark.parametrize(("dials", "word"), [
    ({}, "kept"), ({"patched": 0.3}, "kept in part"), ({"patched": 0.69}, "lost"), ({"patched": 0.9}, "lost"),
    ({"base": 0.08, "patched": 0.01}, "not needed"), ({"old_effect": 0.01}, "nothing to keep"),
    ({"refused": 0.2}, "kept, at a price"), ({"far": 0.2, "patched": 0.3}, "kept in part, at a price"),
    ({"refused": 0.028, "far": 0.024}, "kept"),  # less than is a price
    ({"refused": 0.2, "far": 0.2, "spread": 0.2}, "kept")])  # or perhaps chance
def test_the_verdict_is_a_plain_word(dials: dict[str, float], word: str) -> None:
    verdict = decide(*figures(**dials), metric="toxic_rate", target=0.0)
    assert verdict.word == word and verdict.holds == word.startswith("kept")
    assert ("refused rise by 0.200, on the old base by 0.010" in verdict.why) == ("price" in word and "refused" in dials)
    assert ("KL to the base on harmless requests is 0.200" in verdict.why) == ("price" in word and "far" in dials)
