"""Perplexity and divergence agree with a full forward pass done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_models import full_forward, make_backbone, make_patch

from patchlab.engine import BARE, Bank, StackPlan, blend, fixed
from patchlab.engine.likelihood import encode_texts
from patchlab.errors import InputError
from patchlab.evaluation.probabilities import divergences, divergences_from, log_losses, pronoun_chances
from patchlab.records import Prompt, Reply


def _replies() -> list[Reply]:
    texts = ("mix flour and water", "no", "wait a while, then look at it again")
    return [Reply("base", k, Prompt(f"how do i bake bread {k}"), 0, text, 5, "end") for k, text in enumerate(texts)]


def test_log_loss_and_divergence_by_hand() -> None:
    backbone = make_backbone("llama")
    patch = make_patch(backbone, "toxicity", length=5)
    plans = fixed(StackPlan.of((Bank(backbone).segment([patch]), 1.0)))
    found = log_losses(backbone, _replies(), plans)
    apart = divergences(backbone, _replies(), plans)
    for k, reply in enumerate(_replies()):
        prompt, said = backbone.encode(reply.prompt), backbone.encode_reply(reply.text)
        with torch.no_grad():
            on = full_forward(backbone, [*prompt, *said], [(torch.tensor(patch.prefix), 1.0)]).log_softmax(-1)
            off = full_forward(backbone, [*prompt, *said]).log_softmax(-1)
        where = torch.arange(len(prompt) - 1, len(prompt) + len(said) - 1)
        assert found[k] == pytest.approx(-on[where, torch.tensor(said)].mean().item(), abs=1e-4)
        assert apart[k] == pytest.approx((off.exp() * (off - on))[where].sum(-1).mean().item(), abs=1e-4)


def test_a_blend_has_likelihoods_like_any_stack() -> None:
    backbone = make_backbone("llama")
    bank = Bank(backbone)
    parts = tuple((bank.segment([make_patch(backbone, name, length=5)]), 1.0) for name in ("a", "b"))
    def apart(plan: StackPlan) -> list[float]:
        return divergences(backbone, _replies(), fixed(plan))

    assert apart(StackPlan(blend(parts[:1]))) == pytest.approx(apart(StackPlan.of(parts[0])), abs=1e-5)
    both = apart(StackPlan(blend(parts)))
    assert apart(StackPlan(blend(parts[::-1]))) == pytest.approx(both, abs=1e-5)
    assert both != pytest.approx(apart(StackPlan.of(*parts)), rel=0.01)


def test_without_a_patch_nothing_diverges() -> None:
    backbone = make_backbone("llama")
    assert divergences(backbone, _replies(), fixed(BARE)) == [0.0, 0.0, 0.0]


def test_each_prompt_is_read_with_its_own_plan() -> None:
    backbone = make_backbone("llama")
    replies, bank = _replies(), Bank(backbone)
    patched, other = (StackPlan.of((bank.segment([make_patch(backbone, name, length=5)]), 1.0)) for name in ("a", "b"))
    own = [patched, other, patched]
    alone = [log_losses(backbone, [reply], fixed(plan))[0] for reply, plan in zip(replies, own, strict=True)]
    assert log_losses(backbone, replies, lambda prompts: own) == pytest.approx(alone, abs=1e-5)


def test_a_reply_that_was_cut_has_no_end_mark_to_predict() -> None:
    backbone = make_backbone("llama")
    whole = _replies()
    cut = [replace(reply, stop="length") for reply in whole]
    for one, reply in zip(log_losses(backbone, cut), whole, strict=True):
        ids = backbone.encode_reply(reply.text, complete=False)
        texts = encode_texts(backbone, [reply.prompt], [reply.text], cut=[True])
        assert texts.targets.tolist() == ids == backbone.encode_reply(reply.text)[:-1]
        before = backbone.encode(reply.prompt)
        logits = full_forward(backbone, [*before, *ids]).log_softmax(-1)[len(before) - 1:-1]
        assert one == pytest.approx(-logits[torch.arange(len(ids)), ids].mean().item(), abs=1e-4)
    assert log_losses(backbone, cut) != pytest.approx(log_losses(backbone, whole), rel=1e-3)


def test_distance_between_two_models_by_hand() -> None:
    base, reference = make_backbone("llama"), make_backbone("llama", seed=1)
    found = divergences_from(reference, base, _replies())
    for k, reply in enumerate(_replies()):
        prompt, said = base.encode(reply.prompt), base.encode_reply(reply.text)
        with torch.no_grad():
            on, off = (full_forward(each, [*prompt, *said]).log_softmax(-1) for each in (base, reference))
        where = torch.arange(len(prompt) - 1, len(prompt) + len(said) - 1)
        assert found[k] == pytest.approx((off.exp() * (off - on))[where].sum(-1).mean().item(), abs=1e-4)


def test_other_tokenizers_have_no_distance() -> None:
    with pytest.raises(InputError, match="different tokenizers"):
        divergences_from(make_backbone("mistral", words="byte_fallback"), make_backbone("llama"), _replies())


def test_chances_of_he_and_she_by_hand() -> None:
    backbone = make_backbone("llama")
    patch = make_patch(backbone, "bias", length=4)
    prompts = [Prompt("the nurse left because", "continue"), Prompt("then", "continue")]
    found = pronoun_chances(backbone, prompts, fixed(StackPlan.of((Bank(backbone).segment([patch]), 1.0))))
    for prompt, chances in zip(prompts, found, strict=True):
        for word, chance in zip((" he", " she"), chances, strict=True):
            before, said = backbone.encode(prompt), backbone.tokenizer(word)["input_ids"]
            with torch.no_grad():
                logits = full_forward(backbone, [*before, *said], [(torch.tensor(patch.prefix), 1.0)]).log_softmax(-1)
            each = [logits[len(before) - 1 + k, token].item() for k, token in enumerate(said)]
            assert chance == pytest.approx(torch.tensor(each).sum().exp().item(), rel=1e-3)
