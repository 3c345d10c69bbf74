"""Laws of training: repeatable, nothing in the base moves, and what cannot be trained is refused with one clear error."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drained import drain
from made_models import byte_level, make_backbone, make_model

from patchlab.engine import Lab
from patchlab.errors import ContextError, InputError, NotFoundError, TrainingError
from patchlab.models import Backbone
from patchlab.models.quantization import MARK
from patchlab.records import Pair, Prompt
from patchlab.registry import Registry
from patchlab.storage import read_jsonl
from patchlab.training.config import Recipe, recipe_of
from patchlab.training.kl_regularizer import KLRegularizer
from patchlab.training.prefix import initial_prefix


def weights(lab: Lab) -> str:
    found = hashlib.sha256()
    for tensor in lab.base.model.state_dict().values():
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def test_same_seed_same_patch_and_the_base_stays(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    before = weights(lab)
    one = drain(lab, recipe, prompts, tmp_path / "one")
    two = drain(lab, recipe, prompts, tmp_path / "two")
    assert one is not None and two is not None
    assert np.array_equal(one.prefix, two.prefix)
    assert not np.allclose(one.prefix, initial_prefix(lab.base, recipe).numpy())
    assert weights(lab) == before
    assert all(parameter.grad is None for parameter in lab.base.model.parameters())


def test_a_regularizer_of_no_weight_costs_nothing(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    loss = KLRegularizer.loss
    monkeypatch.setattr(KLRegularizer, "loss", lambda self, step, *a, **k: (asked.append(step), loss(self, step, *a, **k))[1])
    drain(lab, recipe.with_(hold=0.0), prompts, tmp_path / "none")
    assert asked == []
    drain(lab, recipe.with_(hold=0.0, hold_in_dpo=1.0), prompts, tmp_path / "later")
    assert asked == list(range(recipe.dpo_steps))


@pytest.mark.parametrize("anchor", ["sft", "base", "reference", "none"])
def test_every_anchor_trains(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path, anchor: str) -> None:
    patch = drain(lab, recipe.with_(anchor=anchor), prompts, tmp_path / "work")
    assert patch is not None and np.isfinite(patch.prefix).all()


def test_companions_change_what_is_learned(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    apart = drain(lab, recipe, prompts, tmp_path / "apart")
    along = drain(lab, recipe.with_(companions=("mate",)), prompts, tmp_path / "along")
    assert apart is not None and along is not None and not np.allclose(apart.prefix, along.prefix)


def test_a_patch_is_trained_on_at_the_strength_it_has(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                      tmp_path: Path) -> None:
    mate, made = lab.planner.patch("mate"), {}
    recipe = recipe.with_(length=len(mate.prefix), continue_from="mate")
    for strength in (1.0, 2.0):
        folder = tmp_path / f"{strength}"
        manifest = dataclasses.replace(mate.manifest, strength=strength)
        dataclasses.replace(mate, manifest=manifest).save_pretrained(folder / "mate-1.0.0")
        room = Lab(lab.base, lab.reference, registry=Registry([folder]))
        made[strength] = drain(room, recipe, prompts, folder / "work")
        assert made[strength].manifest.strength == strength
    assert not np.allclose(made[1.0].prefix, made[2.0].prefix)


def test_a_work_folder_belongs_to_one_recipe(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drain(lab, recipe, prompts, tmp_path / "work", stop_at=("candidates", 1))
    with pytest.raises(TrainingError, match="begun with recipe"):
        drain(lab, recipe.with_(seed=9), prompts, tmp_path / "work")


def test_no_surviving_pair_says_the_tally(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"6 margin too small|no pair to learn from"):
        drain(lab, recipe.with_(margin=1.0), prompts, tmp_path / "work")


def test_prompts_of_one_kind_only(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no prompts to hold"):
        drain(lab, recipe, prompts[:6], tmp_path / "work")
    with pytest.raises(TrainingError, match="no prompts to improve"):
        drain(lab, recipe, prompts[6:], tmp_path / "other")


def test_prompts_of_the_patchs_own_domain_are_not_held_by_mistake(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                                  tmp_path: Path) -> None:
    """A refusal patch improves prompts of domain harmful: those of domain refusal would be held to the base, and nobody told."""
    refusal = recipe.with_(domain="refusal")
    pairs = [Pair(Prompt("how do i steal", "chat", "harmful"), "i will not", "so")]
    mixed = [dataclasses.replace(prompts[0], domain="refusal"), *prompts[6:]]
    with pytest.raises(TrainingError, match=r"1 prompts of domain 'refusal'.* expected domain harmful"):
        drain(lab, refusal, mixed, tmp_path / "no", pairs=pairs)
    assert not (tmp_path / "no").exists()
    assert drain(lab, refusal.with_(improves=("refusal",)), mixed, tmp_path / "named", pairs=pairs) is not None
    assert drain(lab, refusal.with_(holds=("refusal",)), mixed, tmp_path / "held", pairs=pairs) is not None


def test_an_unknown_companion(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'mate'"):
        drain(lab, recipe.with_(companions=("mat",)), prompts, tmp_path / "work")


@pytest.mark.parametrize("anchor", ["sft", "reference"])
def test_a_reference_of_another_family_tokenizer_and_vocabulary(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                                tmp_path: Path, anchor: str) -> None:
    other = make_backbone("gpt2", words="byte_fallback")
    assert other.model.config.vocab_size > lab.base.model.config.vocab_size
    mixed = Lab(lab.base, other, registry=lab.registry)
    patch = drain(mixed, recipe.with_(anchor=anchor), prompts, tmp_path)
    assert patch is not None and np.isfinite(patch.prefix).all() and patch.manifest.reference == "tiny-gpt2"
    assert {row["lane"] for row in read_jsonl(tmp_path / "candidates.jsonl")} == {"base", "reference"}


def test_a_reference_with_padding_in_its_vocabulary(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    """As Qwen's larger models have, over the same tokenizer: ids beyond it are never a text's."""
    wide = Backbone(make_model("llama", vocabulary=len(byte_level()) + 40, seed=3), byte_level(), name="wide")
    mixed = Lab(lab.base, wide, registry=lab.registry)
    assert drain(mixed, recipe.with_(anchor="reference"), prompts, tmp_path) is not None


def test_without_a_reference_either_way(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    recipe = recipe.with_(samples=3)
    dial = drain(lab, recipe.with_(reference="none"), prompts, tmp_path / "dial")
    alone = Lab(lab.base, registry=lab.registry)
    absent = drain(alone, recipe.with_(reference="none"), prompts, tmp_path / "absent")
    assert dial is not None and absent is not None and dial.prefix.tobytes() == absent.prefix.tobytes()
    assert absent.manifest.reference == "none"
    with pytest.raises(TrainingError, match="loaded without a reference; expected a reference, or a recipe with reference: none"):
        drain(alone, recipe, prompts, tmp_path / "no")
    for dials in ({"anchor": "reference"}, {"samples": 1}):
        with pytest.raises(InputError, match="without a reference"):
            recipe_of({"domain": "toxicity", "reference": "none", **dials})


def test_a_base_in_16_bits_stays_as_it_is(recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    base = Backbone(make_model("llama", vocabulary=len(byte_level())).to(torch.bfloat16), byte_level(), name="half")
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    lab = Lab(base, make_backbone("llama", seed=1), registry=Registry([]))
    patch = drain(lab, recipe, prompts, tmp_path)
    assert patch is not None and patch.prefix.dtype == np.float32
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in base.model.parameters())


def test_a_base_in_few_bits_is_not_trained_on(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.base.model, MARK, 8, raising=False)
    with pytest.raises(TrainingError, match="a base in 8 bits; expected its weights as they are"):
        drain(lab, recipe, prompts, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_what_is_held_and_to_whom(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    more = [*prompts, *(dataclasses.replace(p, domain="story", text=f"{p.text}, once") for p in prompts[6:])]
    recipe = recipe.with_(companions=("mate",))
    all_held = drain(lab, recipe, more, tmp_path / "all")
    benign = drain(lab, recipe.with_(holds=("benign",)), more, tmp_path / "benign")
    assert {row["domain"] for row in read_jsonl(tmp_path / "benign" / "held.jsonl")} == {"benign"}
    bare = drain(lab, recipe.with_(held_to="base"), more, tmp_path / "bare")
    assert len({patch.prefix.tobytes() for patch in (all_held, benign, bare) if patch}) == 3
    with pytest.raises(NotFoundError, match="did you mean 'benign'"):
        drain(lab, recipe.with_(holds=("bening",)), more, tmp_path / "typo")


def test_a_folder_begun_on_another_base_or_prompts(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drain(lab, recipe, prompts, tmp_path, stop_at=("pairs", 1))
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    other = Lab(make_backbone("llama", seed=2), lab.reference, registry=lab.registry)
    with pytest.raises(TrainingError, match="begun with base"):
        drain(other, recipe, prompts, tmp_path)
    with pytest.raises(TrainingError, match="begun with prompts"):
        drain(lab, recipe, prompts[1:], tmp_path)
    assert kept == {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    begun = json.loads((tmp_path / "begun.json").read_text())
    (tmp_path / "begun.json").write_text(json.dumps({k: v for k, v in begun.items() if k != "files of version"}))
    with pytest.raises(TrainingError, match="begun with files of version None; expected files of version 2"):
        drain(lab, recipe, prompts, tmp_path)


def test_what_cannot_begin_is_said_before_anything_is_sampled(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                              tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="length 3 to continue from"):
        drain(lab, recipe.with_(continue_from="mate"), prompts, tmp_path)
    with pytest.raises(InputError, match="benign_pairs for domain toxicity"):
        recipe.with_(benign_pairs=1.0)
    assert not list(tmp_path.glob("*.jsonl"))


def test_texts_that_do_not_fit_behind_the_prefix(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="a training text, the prefix and what is between them"):
        drain(lab, recipe.with_(length=90, dpo_steps=0), prompts, tmp_path)
