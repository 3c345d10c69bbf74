"""Learning from what the reference might have said instead of the one token it drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drained import drain
from made_models import make_backbone
from torch.nn import functional

from patchlab.engine import Trio
from patchlab.engine.likelihood import encode_texts, reply_logits
from patchlab.errors import TrainingError
from patchlab.records import Prompt
from patchlab.training.config import Recipe
from patchlab.training.kl_regularizer import Targets
from patchlab.training.losses import token_losses


def test_a_teacher_that_is_certain_teaches_its_tokens(trio: Trio, prompts: list[Prompt]) -> None:
    texts = encode_texts(trio.base, prompts[:2], ["so late", "no one"])
    logits = reply_logits(trio.base, texts)
    certain = functional.one_hot(texts.targets, logits.shape[1]).float()
    hard = token_losses(logits, texts.targets, None, distill=0.0)
    for share in (0.0, 0.4, 1.0):
        assert torch.allclose(token_losses(logits, texts.targets, certain, distill=share), hard, atol=1e-5)


def test_the_teacher_itself_has_the_least_loss(trio: Trio, prompts: list[Prompt]) -> None:
    texts = encode_texts(trio.base, prompts[:2], ["so late", "no one"])
    assert trio.reference is not None
    soft = Targets(trio.reference).of(texts, ()).exp()
    own, other = (token_losses(reply_logits(each, texts), texts.targets, soft, distill=1.0).mean()
                  for each in (trio.reference, trio.base))
    assert own < other


def test_distilled_is_another_patch(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drawn = drain(trio, recipe, prompts, tmp_path / "drawn")
    distilled = drain(trio, recipe.with_(distill=1.0), prompts, tmp_path / "distilled")
    assert drawn is not None and distilled is not None and not np.allclose(drawn.prefix, distilled.prefix)


def test_the_weight_of_what_is_held_may_differ_in_dpo(trio: Trio, recipe: Recipe, prompts: list[Prompt],
                                                      tmp_path: Path) -> None:
    def made(name: str, **dials: float) -> np.ndarray:
        patch = drain(trio, recipe.with_(**dials), prompts, tmp_path / name)
        assert patch is not None
        return patch.prefix

    plain = made("plain")
    assert np.array_equal(made("same", hold_in_dpo=recipe.hold), plain)
    assert not np.allclose(made("other", hold_in_dpo=50.0), plain)
    assert np.array_equal(made("sft", hold_in_dpo=50.0, dpo_steps=0), made("none", dpo_steps=0))


@pytest.mark.parametrize("dials", [{"distill": 0.5}, {"own_steps": 2}])
def test_another_vocabulary_cannot_be_distilled(trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                dials: dict[str, float]) -> None:
    other = make_backbone("llama", words="byte_fallback", seed=1)
    with pytest.raises(TrainingError, match="with tiny-llama; expected a reference with the vocabulary"):
        drain(Trio(trio.base, other, registry=trio.registry, preset=trio.preset),
              recipe.with_(**dials), prompts, tmp_path / "work")
    assert not (tmp_path / "work").exists()
