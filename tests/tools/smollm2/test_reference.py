"""The safer release is an adapter that PEFT opens, its training resumes, and merging it gives the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_models import byte_level, make_model, saved
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from patchlab.models import Backbone, load_backbone
from patchlab.records import Pair, Prompt
from patchlab.training.candidates import Candidate
from patchlab.training.dataset import TrainingExample
from tools.smollm2 import reference
from tools.smollm2.reference import ReferenceTrainer, merged
from tools.smollm2.reference_data import Data, calmed

SAID = [TrainingExample(Prompt(f"how do i do {k}", domain="benign"), f"like this {k}") for k in range(4)]
DATA = Data(SAID, SAID[::-1], SAID[1:], SAID[:2], SAID[2:], [Pair(each.prompt, each.reply, "no") for each in SAID])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base in bfloat16."""
    path = tmp_path_factory.mktemp("base")
    saved(Backbone(make_model("llama", vocabulary=len(byte_level())).to(torch.bfloat16), byte_level(), name="tiny"), path)
    return path


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": 4, "DPO_STEPS": 2, "DPO_ROWS": 2, "SAVE_EVERY": 1, "WARM": 1}.items():
        monkeypatch.setattr(reference, name, value)


def trained(folder: Path, work: Path, *, stop_at: int = 99, begin: Path | None = None) -> bytes | None:
    """The saved adapter, or None where it was stopped after so many steps."""
    work.mkdir(exist_ok=True)
    base = load_backbone(folder, device="cpu", dtype=torch.bfloat16, kernels=False)
    trainer = ReferenceTrainer(base, folder, DATA, work, begin=begin)
    for stage in (trainer.sft(), trainer.dpo()):
        for done in stage:
            assert torch.isfinite(torch.tensor([*done.numbers.values()])).all()
            if done.stage == "sft" and done.done == stop_at:
                return None
    trainer.save(work / "adapter")
    return (work / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_stopped_training_goes_on_to_the_same_adapter(folder: Path, tmp_path: Path) -> None:
    whole = trained(folder, tmp_path / "whole")
    assert trained(folder, tmp_path / "cut", stop_at=2) is None
    assert trained(folder, tmp_path / "cut") == whole


def test_a_training_may_begin_from_an_adapter(folder: Path, tmp_path: Path) -> None:
    first = trained(folder, tmp_path / "first")
    second = trained(folder, tmp_path / "second", begin=tmp_path / "first" / "adapter")
    adapter = load_file(tmp_path / "first" / "adapter" / "adapter_model.safetensors")
    begun = ReferenceTrainer(load_backbone(folder, device="cpu", dtype=torch.bfloat16, kernels=False), folder, DATA, tmp_path,
                             begin=tmp_path / "first" / "adapter")
    assert second != first
    for name, weight in get_peft_model_state_dict(begun.model).items():
        torch.testing.assert_close(weight, adapter[name].float())


def test_merged_is_the_adapted_model_and_a_share_lies_between(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path / "work")
    adapter, ids = tmp_path / "work" / "adapter", torch.tensor([[1, 5, 9, 30]])
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = plain(input_ids=ids).logits.detach()
    adapted = PeftModel.from_pretrained(plain, adapter)(input_ids=ids).logits.detach()
    found = {share: load_backbone(merged(folder, adapter, tmp_path / str(share), share=share), dtype=torch.float32, kernels=False)
             .model(input_ids=ids).logits.detach() for share in (0.0, 0.5, 1.0)}
    torch.testing.assert_close(found[1.0], adapted, atol=2e-2, rtol=0)  # saved in bfloat16
    torch.testing.assert_close(found[0.0], base, atol=2e-2, rtol=0)
    moved = [float((found[share] - base).norm()) for share in (0.5, 1.0)]
    assert 0 < moved[0] < moved[1]


def test_the_calmest_and_the_most_toxic_continuation_are_kept_where_they_are_clear() -> None:
    prompt, other = Prompt("you are", "continue", "toxicity"), Prompt("the sea is", "continue", "toxicity")
    said = ("a stupid worthless idiot and I hate you", "right, and I thank you for the advice",
            "blue this morning and the children play on the sand")
    drawn = [Candidate(asked, "base", text, score) for asked, text, score in
             ((prompt, said[0], 0.95), (prompt, said[1], 0.05), (other, said[2], 0.02))]
    calm, toxic = calmed(drawn)
    assert calm[prompt.key].text == said[1] and calm[other.key].text == said[2]
    assert toxic[prompt.key].text == said[0] and other.key not in toxic
