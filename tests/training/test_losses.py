"""SFT and DPO: where the teacher's distribution is learned, what a cut reply teaches, and the weight of the KL term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drained import drain
from made_models import make_backbone
from torch.nn import functional

from patchlab.engine import BARE, Lab, StackPlan, likelihood
from patchlab.engine.likelihood import encode_texts, reply_logits, reply_logprobs
from patchlab.engine.segments import Bank
from patchlab.errors import TrainingError
from patchlab.models import Backbone
from patchlab.patches import Patch
from patchlab.records import Pair, Prompt
from patchlab.storage import read_jsonl
from patchlab.training import kl_regularizer, losses, on_policy
from patchlab.training.config import Recipe
from patchlab.training.kl_regularizer import TargetCache
from patchlab.training.losses import PairBatches, token_losses


def test_a_teacher_that_is_certain_teaches_its_tokens(lab: Lab, prompts: list[Prompt]) -> None:
    texts = encode_texts(lab.base, prompts[:2], ["so late", "no one"])
    logits = reply_logits(lab.base, texts)
    certain = functional.one_hot(texts.targets, logits.shape[1]).float()
    hard = token_losses(logits, texts.targets, None, distill=0.0)
    for share in (0.0, 0.4, 1.0):
        assert torch.allclose(token_losses(logits, texts.targets, certain, distill=share), hard, atol=1e-5)


def test_the_teacher_itself_has_the_least_loss(lab: Lab, prompts: list[Prompt]) -> None:
    texts = encode_texts(lab.base, prompts[:2], ["so late", "no one"])
    assert lab.reference is not None
    soft = TargetCache(lab.reference).of(texts, BARE).exp()
    own, other = (token_losses(reply_logits(each, texts), texts.targets, soft, distill=1.0).mean()
                  for each in (lab.reference, lab.base))
    assert own < other


def test_only_replies_that_ended_are_learned_with_an_end_mark(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """In every stage and in the KL term; of replies of five tokens most are cut."""
    labels: set[tuple[str, bool]] = set()

    def watched(backbone: Backbone, texts: likelihood.Texts, *args: Any, **options: Any) -> torch.Tensor:
        for ids, predicts in zip(texts.ids[:, 1:], texts.predicts, strict=True):
            reply = ids[predicts]
            labels.add((backbone.tokenizer.decode(reply, skip_special_tokens=True).strip(), reply[-1].item() in backbone.stops))
        return likelihood.reply_logits(backbone, texts, *args, **options)

    for module in (losses, on_policy, kl_regularizer):
        monkeypatch.setattr(module, "reply_logits", watched)
    assert drain(lab, recipe.with_(own_steps=3), prompts, tmp_path) is not None
    drawn = [row for path in tmp_path.glob("*.jsonl") for row in read_jsonl(path) if "stop" in row]
    assert labels <= {(row["reply"], row["stop"] == "end") for row in drawn} and {True, False} == {ended for _, ended in labels}


def test_given_pairs_are_complete(lab: Lab, prompts: list[Prompt]) -> None:
    batches = PairBatches(lab.base, [Pair(prompts[0], "calm", "angry", rejected_cut=True)], lab.base, rows=1, seed=0)
    texts = batches.batches[0]
    last = [int(ids[places.nonzero()[-1] + 1]) for ids, places in zip(texts.ids, texts.predicts, strict=True)]
    assert last[0] in lab.base.stops and last[1] not in lab.base.stops


def test_the_replies_of_a_pair_become_equally_likely_without_a_reference_policy(lab: Lab, recipe: Recipe,
                                                                                prompts: list[Prompt], tmp_path: Path) -> None:
    """What the base prefers by itself is what a reference policy would keep."""
    replies = "calm", "angry"
    pairs = [Pair(prompt, *replies, chosen_cut=True, rejected_cut=True) for prompt in prompts[:2]]

    def margin(patch: Patch | None) -> float:
        """How far apart the two replies' log-probabilities are, in the mean over prompts."""
        plan = StackPlan.of((Bank(lab.base).segment([patch]), 1.0)) if patch else BARE
        asked = [pair.prompt for pair in pairs]
        first, second = (reply_logprobs(reply_logits(lab.base, texts, plan), texts) for reply in replies
                         for texts in [encode_texts(lab.base, asked, [reply] * len(asked), cut=[True] * len(asked))])
        return float((first - second).abs().mean())

    recipe = recipe.with_(sft_steps=1, sft_rate=1e-6, sft_in_dpo=0.0, hold=0.0, dpo_steps=60, dpo_rate=0.05, beta=1.0)
    even, kept = (drain(lab, recipe.with_(anchor=anchor), prompts, tmp_path / anchor, pairs=pairs) for anchor in ("none", "base"))
    assert margin(even) < 0.3 * margin(None) and margin(even) < 0.5 * margin(kept)


def test_distilled_is_another_patch(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path) -> None:
    drawn = drain(lab, recipe, prompts, tmp_path / "drawn")
    distilled = drain(lab, recipe.with_(distill=1.0), prompts, tmp_path / "distilled")
    assert drawn is not None and distilled is not None and not np.allclose(drawn.prefix, distilled.prefix)


def test_the_weight_of_what_is_held_may_differ_in_dpo(lab: Lab, recipe: Recipe, prompts: list[Prompt],
                                                      tmp_path: Path) -> None:
    def made(name: str, **dials: float) -> np.ndarray:
        patch = drain(lab, recipe.with_(**dials), prompts, tmp_path / name)
        assert patch is not None
        return patch.prefix

    plain = made("plain")
    assert np.array_equal(made("same", hold_in_dpo=recipe.hold), plain)
    assert not np.allclose(made("other", hold_in_dpo=50.0), plain)
    assert np.array_equal(made("sft", hold_in_dpo=50.0, dpo_steps=0), made("none", dpo_steps=0))


@pytest.mark.parametrize("dials", [{"distill": 0.5}, {"own_steps": 2}])
def test_another_vocabulary_cannot_be_distilled(lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path,
                                                dials: dict[str, float]) -> None:
    other = make_backbone("llama", words="byte_fallback", seed=1)
    with pytest.raises(TrainingError, match="with tiny-llama; expected a reference with the vocabulary"):
        drain(Lab(lab.base, other, registry=lab.registry),
              recipe.with_(**dials), prompts, tmp_path / "work")
    assert not (tmp_path / "work").exists()
