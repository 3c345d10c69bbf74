"""What training does where something is missing, other than usual, or fails: one clear error, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from drained import drain
from made_models import byte_level, make_backbone, make_model

from patchlab.engine import Trio
from patchlab.errors import ContextError, InputError, NotFoundError, TrainingError
from patchlab.models import Backbone, preset
from patchlab.models.quantization import MARK
from patchlab.records import Prompt
from patchlab.registry import Registry
from patchlab.storage import read_jsonl
from patchlab.training import losses
from patchlab.training.candidates import ROWS
from patchlab.training.config import Recipe, recipe_of


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond `room` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_state_before(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SAVE_EVERY", 1)
    whole = drain(trio, recipe, prompts, tmp_path / "whole")
    work = tmp_path / "cut"
    drain(trio, recipe, prompts, work, stop_after=6)
    state = (work / "sft.safetensors").read_bytes()
    with full_disk(len(state) - 1), pytest.raises(TrainingError, match="free space and go on in the same folder"):
        drain(trio, recipe, prompts, work)
    assert (work / "sft.safetensors").read_bytes() == state
    assert not list(work.glob(".sft*"))
    resumed = drain(trio, recipe, prompts, work)
    assert whole is not None and resumed is not None and whole.prefix.tobytes() == resumed.prefix.tobytes()


def test_candidates_go_on_behind_the_last_whole_chunk(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                      tmp_path: Path) -> None:
    many = [dataclasses.replace(p, text=f"{p.text} {k}") for p in prompts for k in range(ROWS // 6)]
    recipe = recipe.with_(sft_steps=1, dpo_steps=0, max_new_tokens=2)
    drain(trio, recipe, many, tmp_path / "whole")
    drain(trio, recipe, many, tmp_path / "cut", stop_after=1)
    part = tmp_path / "cut" / ".candidates.jsonl.part"
    drain(trio, recipe, many, tmp_path / "cut", stop_after=1)
    before = part.read_bytes()
    assert before.count(b"\n") == ROWS
    part.write_bytes(before + before[:40])  # killed while writing
    drain(trio, recipe, many, tmp_path / "cut")
    for name in ("candidates.jsonl", "held.jsonl", "pairs.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not part.exists()


def test_the_log_has_every_step_once(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drain(trio, recipe, prompts, tmp_path, stop_after=7)  # nothing is saved yet, so these steps are done again
    log = tmp_path / "log.jsonl"
    with log.open("a") as lines:
        lines.write('{"stage": "sf')  # killed while writing
    drain(trio, recipe, prompts, tmp_path)
    rows = list(read_jsonl(log))
    assert [(row["stage"], row["step"]) for row in rows] == [
        *(("sft", k + 1) for k in range(recipe.sft_steps)), *(("dpo", k + 1) for k in range(recipe.dpo_steps))]
    assert list(rows[-1]) == ["stage", "step", "loss", "margin", "hold", "rate", "seconds"]
    drain(trio, recipe, prompts, tmp_path)
    assert list(read_jsonl(log)) == rows


def test_rounds_of_dpo_resume_where_they_stopped(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SAVE_EVERY", 1)
    once = drain(trio, recipe, prompts, tmp_path / "once")
    twice = recipe.with_(rounds=2)
    whole = drain(trio, twice, prompts, tmp_path / "whole")
    rows = list(read_jsonl(tmp_path / "whole" / "log.jsonl"))
    assert [row["stage"] for row in rows] == ["sft"] * recipe.sft_steps + ["dpo"] * recipe.dpo_steps + ["dpo2"] * recipe.dpo_steps
    margins = [row["margin"] for row in rows if row["stage"] != "sft"]  # they count from where the round before ended
    assert abs(margins[recipe.dpo_steps]) < 0.3 < margins[recipe.dpo_steps - 1]
    assert once is not None and whole is not None and not np.array_equal(once.prefix, whole.prefix)

    before = recipe.sft_steps + recipe.dpo_steps
    for k, steps in enumerate((before, before + 1)):
        drain(trio, twice, prompts, tmp_path / str(k), stop_after=len(rows) - before + steps)
        resumed = drain(trio, twice, prompts, tmp_path / str(k))
        assert resumed is not None and resumed.prefix.tobytes() == whole.prefix.tobytes()


@pytest.mark.parametrize("anchor", ["sft", "reference"])
def test_a_reference_of_another_family_tokenizer_and_vocabulary(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                                tmp_path: Path, anchor: str) -> None:
    other = make_backbone("gpt2", words="byte_fallback")
    assert other.model.config.vocab_size > trio.base.model.config.vocab_size
    mixed = Trio(trio.base, other, registry=trio.registry, preset=trio.preset)
    patch = drain(mixed, recipe.with_(anchor=anchor), prompts, tmp_path)
    assert patch is not None and np.isfinite(patch.prefix).all() and patch.manifest.reference == "tiny-gpt2"
    assert {row["lane"] for row in read_jsonl(tmp_path / "candidates.jsonl")} == {"base", "reference"}


def test_a_reference_with_padding_in_its_vocabulary(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    """As Qwen's larger models have, over the same tokenizer: ids beyond it are never a text's."""
    wide = Backbone(make_model("llama", vocabulary=len(byte_level()) + 40, seed=3), byte_level(), name="wide")
    mixed = Trio(trio.base, wide, registry=trio.registry, preset=trio.preset)
    assert drain(mixed, recipe.with_(anchor="reference"), prompts, tmp_path) is not None


def test_without_a_reference_either_way(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    recipe = recipe.with_(samples=3)
    dial = drain(trio, recipe.with_(reference="none"), prompts, tmp_path / "dial")
    alone = Trio(trio.base, None, registry=trio.registry, preset=trio.preset)  # type: ignore[arg-type]
    absent = drain(alone, recipe, prompts, tmp_path / "absent")
    assert dial is not None and absent is not None and dial.prefix.tobytes() == absent.prefix.tobytes()
    assert absent.manifest.reference == "none"
    with pytest.raises(TrainingError, match="without a reference"):
        drain(alone, recipe.with_(anchor="reference"), prompts, tmp_path / "no")
    for dials in ({"anchor": "reference"}, {"samples": 1}):
        with pytest.raises(InputError, match="without a reference"):
            recipe_of({"domain": "toxicity", "reference": "none", **dials})


def test_a_base_in_16_bits_stays_as_it_is(recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    base = Backbone(make_model("llama", vocabulary=len(byte_level())).to(torch.bfloat16), byte_level(), name="half")
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    trio = Trio(base, make_backbone("llama", seed=1), registry=Registry([]), preset=preset("pocket"))
    patch = drain(trio, recipe, prompts, tmp_path)
    assert patch is not None and patch.prefix.dtype == np.float32
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in base.model.parameters())


def test_a_base_in_few_bits_is_not_trained_on(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio.base.model, MARK, 8, raising=False)
    with pytest.raises(TrainingError, match="a base in 8 bits; expected its weights as they are"):
        drain(trio, recipe, prompts, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_what_is_held_and_to_whom(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    more = [*prompts, *(dataclasses.replace(p, domain="story", text=f"{p.text}, once") for p in prompts[6:])]
    recipe = recipe.with_(companions=("mate",))
    all_held = drain(trio, recipe, more, tmp_path / "all")
    benign = drain(trio, recipe.with_(holds=("benign",)), more, tmp_path / "benign")
    assert {row["domain"] for row in read_jsonl(tmp_path / "benign" / "held.jsonl")} == {"benign"}
    bare = drain(trio, recipe.with_(held_to="base"), more, tmp_path / "bare")
    assert len({patch.prefix.tobytes() for patch in (all_held, benign, bare) if patch}) == 3
    with pytest.raises(NotFoundError, match="did you mean 'benign'"):
        drain(trio, recipe.with_(holds=("bening",)), more, tmp_path / "typo")


def test_a_folder_begun_on_another_base_or_prompts(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drain(trio, recipe, prompts, tmp_path, stop_after=3)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    other = Trio(make_backbone("llama", seed=2), trio.reference, registry=trio.registry, preset=trio.preset)
    with pytest.raises(TrainingError, match="begun with base"):
        drain(other, recipe, prompts, tmp_path)
    with pytest.raises(TrainingError, match="begun with prompts"):
        drain(trio, recipe, prompts[1:], tmp_path)
    assert kept == {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    begun = json.loads((tmp_path / "begun.json").read_text())  # as written before prompts were named in it
    (tmp_path / "begun.json").write_text(json.dumps({k: begun[k] for k in ("recipe", "base", "dials")}))
    assert drain(trio, recipe, prompts, tmp_path) is not None


def test_what_cannot_begin_is_said_before_anything_is_sampled(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                              tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="length 3 to continue from"):
        drain(trio, recipe.with_(continue_from="mate"), prompts, tmp_path)
    with pytest.raises(InputError, match="benign_pairs for domain toxicity"):
        recipe.with_(benign_pairs=1.0)
    assert not list(tmp_path.glob("*.jsonl"))


def test_texts_that_do_not_fit_behind_the_prefix(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="a training text, the prefix and what is between them"):
        drain(trio, recipe.with_(length=90, dpo_steps=0), prompts, tmp_path)
