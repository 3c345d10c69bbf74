"""On-policy steps: the base, patched, learns from its own replies what the reference would not have said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drained import drain

from patchlab.engine import Lab
from patchlab.engine.likelihood import encode_texts
from patchlab.errors import TrainingError
from patchlab.records import Prompt
from patchlab.storage import read_jsonl, write_jsonl
from patchlab.training.config import Recipe
from patchlab.training.dataset import token_weights
from patchlab.training.on_policy import unlikelihood


def test_what_the_teacher_finds_likely_too_costs_nothing() -> None:
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(unlikelihood(logits, logits.log_softmax(-1), factor=10.0, kl=1.0), torch.zeros(5), atol=1e-6)


def test_the_loss_is_the_probability_of_tokens_to_avoid() -> None:
    model = torch.tensor([[0.5, 0.3, 0.2]])
    teacher = torch.tensor([[0.02, 0.9, 0.08]])  # the first is 25 times as likely as it should be
    loss = unlikelihood(model.log(), teacher.log(), factor=10.0, kl=0.0)
    assert torch.allclose(loss, -torch.log(torch.tensor([0.5])))
    assert torch.equal(unlikelihood(model.log(), teacher.log(), factor=30.0, kl=0.0), torch.zeros(1))
    far = (model * (model / teacher).log()).sum(-1)
    assert torch.allclose(unlikelihood(model.log(), teacher.log(), factor=10.0, kl=0.5), loss + 0.5 * far)


def test_a_step_down_the_loss_takes_probability_from_those_tokens_for_all_others() -> None:
    logits = torch.tensor([[1.0, 0.5, 0.0, 2.0]], requires_grad=True)
    teacher = torch.tensor([[1e-4, 0.4, 0.3, 0.2999]]).log()
    unlikelihood(logits, teacher, factor=10.0, kl=0.0).sum().backward()
    assert logits.grad is not None
    slopes = logits.grad[0]
    assert slopes[0] > 0 and bool((slopes[1:] < 0).all())
    shares = slopes[1:] / logits.detach()[0, 1:].softmax(-1)  # the others gain in proportion: nothing is said of them
    assert torch.allclose(shares, shares[:1])


def test_the_weight_of_a_reply_begins_at_lead_and_fades(lab: Lab, prompts: list[Prompt], recipe: Recipe) -> None:
    texts = encode_texts(lab.base, prompts[:2], ["so late", "no one"])
    for fade in (0.0, 0.5):
        found = token_weights(texts, 9.0, fade)
        for row in (0, 1):
            mine = found[texts.rows == row].tolist()
            assert mine == pytest.approx([1 + 8 * fade**k for k in range(len(mine))])


def test_replies_are_sampled_anew_each_round_and_training_differs(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                                    tmp_path: Path) -> None:
    plain = drain(lab, recipe.with_(dpo_steps=0), prompts, tmp_path / "plain")
    owned = drain(lab, recipe.with_(dpo_steps=0, own_steps=5, refresh=2, own_rate=0.5), prompts, tmp_path / "own")
    assert plain is not None and owned is not None and not np.allclose(plain.prefix, owned.prefix)
    rounds = sorted((tmp_path / "own").glob("on_policy*.jsonl"))
    assert [path.name for path in rounds] == [f"on_policy{k}.jsonl" for k in (1, 2, 3)]
    first, last = ({row["prompt"]: row["reply"] for row in read_jsonl(path)} for path in (rounds[0], rounds[2]))
    assert any(first[prompt] != last[prompt] for prompt in first.keys() & last.keys())


@pytest.mark.parametrize("short", [["so late"], []])
def test_replies_that_have_no_place_in_the_model_are_left_out(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                              short: list[str]) -> None:
    """A reply may have been drawn where there was more room than where it is learned from."""
    write_jsonl(tmp_path / "on_policy1.jsonl", [{"prompt": 0, "reply": reply, "stop": "end"}
                                                for reply in [*short, "so late " * lab.base.context]])
    owned = recipe.with_(dpo_steps=0, own_steps=1, refresh=1)
    if short:
        assert drain(lab, owned, prompts, tmp_path) is not None
    else:
        with pytest.raises(TrainingError, match="overlong replies at on-policy step 0"):
            drain(lab, owned, prompts, tmp_path)
