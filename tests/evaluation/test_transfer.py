"""A patch goes to another base by one explicit step; the check of what it does there measures what it says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from made_models import byte_fallback, byte_level, full_forward, make_backbone, make_model, make_patch, some_ids
from made_suites import SAMPLING

from patchlab.engine import Bank, Planner, StackPlan
from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import BaseMismatchError, InputError
from patchlab.evaluation.metrics import METRICS, Counted, by_prompt
from patchlab.evaluation.transfer import KEPT, PortCheck, check_port, decide, differences, ported
from patchlab.models import Backbone
from patchlab.patches import Manifest, Patch, Stack
from patchlab.records import Comparison, Measure, Progress
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
        mine = reply_logits(other, pad_texts(other, [(ids[:1], ids[1:])]), StackPlan.of((Bank(other).segment([moved]), 1.0)))
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

    def planner(base: Backbone) -> Planner:
        return Planner(base, Registry([tmp_path]))

    for base, version in ((llama, "1.0.0"), (other, f"1.0.0+port.{other.identity.fingerprint[3:11]}")):
        assert planner(base).patch("calm").manifest.version == version
        assert planner(base).plan(Stack.parse("calm")).slots == 4
    with pytest.raises(BaseMismatchError):
        planner(other).patch("calm", "1.0.0")
    with pytest.raises(BaseMismatchError):
        planner(make_backbone("llama", seed=2)).patch("calm")


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
    assert ("requests rises by 0.200, on the old base by 0.010" in verdict.why) == ("price" in word and "refused" in dials)
    assert ("KL to the base on harmless requests is 0.200" in verdict.why) == ("price" in word and "far" in dials)
