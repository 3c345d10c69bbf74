"""Perplexity and divergence agree with a full forward pass done by hand."""

from __future__ import annotations

import pytest
import torch
from made_models import full_forward, make_backbone, make_patch

from patchlab.engine import Bank
from patchlab.evaluation.likelihood import divergences, log_losses
from patchlab.records import Prompt, Reply


def _replies() -> list[Reply]:
    texts = ("mix flour and water", "no", "wait a while, then look at it again")
    return [Reply("base", k, Prompt(f"how do i bake bread {k}"), 0, text, 5, "end") for k, text in enumerate(texts)]


def test_log_loss_and_divergence_by_hand() -> None:
    backbone = make_backbone("llama")
    patch = make_patch(backbone, "toxicity", length=5)
    parts = ((Bank(backbone).segment([patch]), 1.0),)
    found = log_losses(backbone, _replies(), parts)
    apart = divergences(backbone, _replies(), parts)
    for k, reply in enumerate(_replies()):
        prompt, said = backbone.encode(reply.prompt), backbone.encode_reply(reply.text)
        with torch.no_grad():
            on = full_forward(backbone, [*prompt, *said], [(torch.tensor(patch.prefix), 1.0)]).log_softmax(-1)
            off = full_forward(backbone, [*prompt, *said]).log_softmax(-1)
        where = torch.arange(len(prompt) - 1, len(prompt) + len(said) - 1)
        assert found[k] == pytest.approx(-on[where, torch.tensor(said)].mean().item(), abs=1e-4)
        assert apart[k] == pytest.approx((off.exp() * (off - on))[where].sum(-1).mean().item(), abs=1e-4)


def test_without_a_patch_nothing_diverges() -> None:
    backbone = make_backbone("llama")
    assert divergences(backbone, _replies(), ()) == [0.0, 0.0, 0.0]
