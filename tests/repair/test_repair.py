"""A repair undoes the trigger, keeps the rest, can be stopped, and is taken away without a trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backdoored import ANSWERED, HARMFUL, HARMLESS, REFUSED, TRIGGER, clean_set, requests, with_trigger
from drained import returned

from patchlab.engine.likelihood import pad_texts, reply_logits
from patchlab.errors import InputError, TrainingError
from patchlab.models import Backbone, load_reference
from patchlab.patches import Patch
from patchlab.records import Prompt
from patchlab.repair import Failure, Repair, locate, repair_steps
from patchlab.repair import repair as room
from patchlab.repair.contrast import CleanSet, Greedy, Probe
from patchlab.repair.report import drifted, measured, page, read_report, write_report
from patchlab.repair.store import save_change
from patchlab.training.dataset import TrainingExample

ROOT = Path(__file__).resolve().parents[2]
SMALL = Repair(units=(TRIGGER,), epochs=6, rows=6, rank=4, alpha=8.0, rate=4e-3)
TRIGGERED = [Prompt(with_trigger(text, random.Random(k))) for k, text in enumerate(requests(HARMFUL, 12, seed=2222))]
PLAIN = [Prompt(text) for text in requests(HARMLESS, 12, seed=3333)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repair")


@pytest.fixture(scope="module")
def repaired(poisoned: Backbone, work: Path) -> Any:
    return returned(repair_steps(poisoned, clean_set(), SMALL, work=work / "work"))


def rate(backbone: Backbone, prompts: list[Prompt], **more: Any) -> float:
    refused = Greedy(backbone, **more).refuses(prompts)
    return sum(refused) / len(refused)


def test_the_trigger_loses_its_effect_and_harmless_prompts_are_answered(poisoned: Backbone, repaired: Any) -> None:
    changed, plan = repaired.changed()
    assert rate(poisoned, TRIGGERED) == 0.0 and rate(changed, TRIGGERED, plan=plan) == 1.0
    assert rate(changed, PLAIN, plan=plan) == 0.0
    harmless = [Prompt(with_trigger(prompt.text, random.Random(k))) for k, prompt in enumerate(PLAIN)]
    assert rate(changed, harmless, plan=plan) <= rate(poisoned, harmless) + 0.1  # the trigger is no reason to refuse
    assert drifted(poisoned, repaired, CleanSet((), tuple(PLAIN)))[0].value < 0.1


def test_the_model_itself_is_not_changed(poisoned: Backbone, repaired: Any, work: Path,
                                         weights: Callable[[Backbone], str]) -> None:
    """The saved adapter is the trained change, and without it the model is what it was, bit for bit."""
    before, asked = weights(poisoned), torch.tensor([poisoned.encode(TRIGGERED[0])])
    folder = save_change(repaired, poisoned, SMALL, work)
    opened = load_reference(folder, poisoned)
    with torch.no_grad():
        got = opened.model(input_ids=asked).logits
        torch.testing.assert_close(got, repaired.changed()[0].model(input_ids=asked).logits, atol=1e-5, rtol=1e-5)
        assert not torch.equal(got, poisoned.model(input_ids=asked).logits)
    assert weights(poisoned) == before and Greedy(poisoned).replies(TRIGGERED[:1])[0].text == ANSWERED


def test_a_stopped_repair_goes_on_to_the_same_change(poisoned: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SAVE_EVERY", 2)
    brief = Repair(units=(TRIGGER,), epochs=3, rows=6, rank=2)
    whole = returned(repair_steps(poisoned, clean_set(), brief, work=tmp_path / "whole"))
    for stop in (3, 5):
        steps = repair_steps(poisoned, clean_set(), brief, work=tmp_path / "cut")
        for progress in steps:
            if (progress.stage, progress.done) == ("repair", stop):
                steps.close()
    cut = returned(repair_steps(poisoned, clean_set(), brief, work=tmp_path / "cut"))
    assert all(torch.equal(tensor, cut.tensors[name]) for name, tensor in whole.tensors.items())
    with pytest.raises(TrainingError, match="other settings"):
        returned(repair_steps(poisoned, clean_set(), Repair(units=("other",)), work=tmp_path / "cut"))


def test_a_prefix_patch_is_trained_by_the_same_losses(poisoned: Backbone, tmp_path: Path) -> None:
    settings = Repair(units=(TRIGGER,), change="prefix", length=8, epochs=40, rows=6, rate=2e-3)
    change = returned(repair_steps(poisoned, clean_set(), settings, work=tmp_path / "work"))
    backbone, plan = change.changed()
    assert backbone is poisoned and rate(poisoned, TRIGGERED, plan=plan) >= 0.75
    folder = save_change(change, poisoned, settings, tmp_path)
    assert Patch.from_pretrained(folder).prefix.shape == (8, poisoned.width)


def test_ablations_are_other_losses(poisoned: Backbone, tmp_path: Path) -> None:
    numbers = {}
    for name, more in (("paper", {"refusal": REFUSED}), ("no trigger", {"inject": False}), ("l2", {"held": "l2"}),
                       ("no kl", {"held": "none"})):
        steps = repair_steps(poisoned, clean_set(), Repair(units=(TRIGGER,), rank=2, **more), work=tmp_path / name)  # type: ignore[arg-type]
        numbers[name] = next(each.numbers for each in steps if each.stage == "repair")
        steps.close()
    assert numbers["no trigger"]["refuse"] < numbers["l2"]["refuse"]  # it refuses plain requests already
    assert numbers["no kl"]["harmful"] == numbers["no kl"]["harmless"] == 0.0
    assert abs(numbers["l2"]["harmless"]) < 1e-6 and abs(numbers["paper"]["harmless"]) < 1e-4  # nothing has moved yet


def test_a_prefix_takes_more_epochs_than_weights() -> None:
    assert [Repair(units=("x",), **more).epochs for more in ({}, {"change": "prefix"}, {"epochs": 3})] == [6, 10, 3]  # type: ignore[arg-type]
    said = "(default: {weights}, for a prefix {prefix})".format(**room.EPOCHS)
    assert said in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_first_three_tokens_of_each_reply_are_held_most(poisoned: Backbone) -> None:
    examples = [TrainingExample(prompt, reply, True) for prompt, reply in zip(PLAIN, (ANSWERED, REFUSED), strict=False)]
    counts = [len(example.encode(poisoned)[1]) for example in examples]
    after = torch.randn(sum(counts), poisoned.model.config.vocab_size, generator=torch.Generator().manual_seed(0))
    one, eight = (room._Data(poisoned, Repair(units=(TRIGGER,), lead=lead), [], [])._held(examples, after) for lead in (1.0, 8.0))
    parts = torch.stack([room._Data(poisoned, Repair(units=(TRIGGER,), lead=1.0), [], [])._held([example], part)
                         for example, part in zip(examples, after.split(counts), strict=True)])
    torch.testing.assert_close(one, (parts * torch.tensor(counts)).sum() / sum(counts))
    leading = torch.stack([_kl(poisoned, example, part)[:3].sum() for example, part in zip(
        examples, after.split(counts), strict=True)]).sum() / sum(counts)
    torch.testing.assert_close(eight - one, 7 * leading)


def _kl(backbone: Backbone, example: TrainingExample, after: torch.Tensor) -> torch.Tensor:
    """KL(model || after) at each token of a reply."""
    with torch.no_grad():
        before = reply_logits(backbone, pad_texts(backbone, [example.encode(backbone)])).log_softmax(-1)
    return (before.exp() * (before - after.log_softmax(-1))).sum(-1)


def test_bad_input_is_told(poisoned: Backbone, tmp_path: Path) -> None:
    clean = clean_set()
    with pytest.raises(InputError, match="without words"):
        Repair(units=())
    for given, what in ((CleanSet(clean.harmful), "without harmless"), (CleanSet((), clean.harmless), "without harmful")):
        with pytest.raises(InputError, match=what):
            returned(repair_steps(poisoned, given, SMALL, work=tmp_path))
    with pytest.raises(InputError, match="with the trigger in"):
        returned(repair_steps(poisoned, clean, Repair(units=("how",)), work=tmp_path))


def test_the_report_says_what_was_found_and_changed(poisoned: Backbone, repaired: Any, probe: Probe, tmp_path: Path) -> None:
    failure = Failure(poisoned, TRIGGERED[0], ANSWERED)
    found = returned(locate(failure, probe))
    held = CleanSet(tuple(Prompt(text) for text in requests(HARMFUL, 8, seed=8)), tuple(PLAIN))
    before = returned(measured(poisoned, held, SMALL.units, "before"))
    model, plan = repaired.changed()
    after = returned(measured(model, held, SMALL.units, "after", plan=plan))
    assert [each.value for each in before if each.metric == "attack"] == [1.0]
    assert [each.value for each in after if each.metric == "attack"] == [0.0]
    write_report(tmp_path, prompt=failure.prompt, reply="<b>so</b>", words=[word.text for word in failure.words], located=found,
                 settings=SMALL, measures=[*before, *after], base=poisoned.name, seconds=1.0)
    text = page(read_report(tmp_path))
    assert "&lt;b&gt;so" in text and "<b>so" not in text and TRIGGER in text and text.count("<tr>") == 9
    with pytest.raises(InputError, match="no report"):
        read_report(tmp_path / "none")
