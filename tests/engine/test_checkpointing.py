"""Recomputed activations: the same gradients to a patch in every family, with less kept, and the model as it was."""

from __future__ import annotations

import torch
from made_models import make_patch, some_ids
from torch import Tensor

from patchlab.engine import compile_prefix
from patchlab.engine.likelihood import Texts, pad_texts, reply_logits, reply_logprobs
from patchlab.models import Backbone


def gradient(backbone: Backbone, texts: Texts, *, checkpointing: bool) -> tuple[Tensor, int]:
    """The gradient [P, D] of the replies' likelihood, and how many numbers were kept for it."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    prefix = torch.tensor(make_patch(backbone, "a", length=5).prefix, requires_grad=True)
    segment = compile_prefix(backbone, prefix)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = reply_logits(backbone, texts, ((segment, 1.0),), checkpointing=checkpointing)
        loss = reply_logprobs(logits, texts).sum()
    loss.backward()
    assert prefix.grad is not None
    return prefix.grad, kept


def test_checkpointing_changes_memory_only(backbone: Backbone) -> None:
    texts = pad_texts(backbone, [(some_ids(n, seed=n), some_ids(m, seed=m)) for n, m in ((3, 5), (9, 2), (6, 7))])
    whole, much = gradient(backbone, texts, checkpointing=False)
    again, little = gradient(backbone, texts, checkpointing=True)
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-4)
    assert whole.abs().max() > 1e-3 and little < 0.7 * much
    assert not any("forward" in vars(module) for module in backbone.model.modules())
