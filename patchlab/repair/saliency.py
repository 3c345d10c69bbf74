"""Scores of a prompt's tokens by gradients: how much each input embedding mattered for a given reply."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from patchlab.models.views import predicting
from patchlab.repair.failures import Failure

STEPS = 16  # points on the path of integrated gradients
TOGETHER = 8  # of them in one batch


def gradient_norm(failure: Failure, *, trained: bool = False) -> Tensor:
    """The L2 norm [T] of the gradient of the reply's loss at each prompt embedding (Patcher, arXiv 2606.02995, localisation).

    With `trained` the model can be trained through it.
    """
    with sdpa_kernel(SDPBackend.MATH) if trained else nullcontext():  # the only one that has second derivatives everywhere
        _, gradient = _gradients(failure, _embeddings(failure)[None], trained=trained)
    return gradient[0].norm(dim=-1)


def gradient_times_input(failure: Failure) -> Tensor:
    """The absolute product [T] of gradient and embedding (Shrikumar et al., arXiv 1605.01713)."""
    inputs = _embeddings(failure)
    _, gradient = _gradients(failure, inputs[None])
    return (gradient[0] * inputs).sum(-1).abs()


def integrated_gradients(failure: Failure) -> Tensor:
    """Gradients [T] along the straight path from the mean embedding to the input (Sundararajan et al., arXiv 1703.01365)."""
    inputs = _embeddings(failure)
    start = failure.backbone.embeddings.detach().float().mean(0).expand_as(inputs).to(inputs)
    total = torch.zeros_like(inputs)
    shares = (torch.arange(STEPS, device=inputs.device) + 0.5) / STEPS
    for some in shares.split(TOGETHER):
        points = start + some[:, None, None].to(inputs) * (inputs - start)
        total += _gradients(failure, points)[1].sum(0) / STEPS
    return ((inputs - start) * total).sum(-1).abs()


def _embeddings(failure: Failure) -> Tensor:
    """The input embeddings [T, D] of the prompt."""
    return failure.backbone.embed(failure.backbone.encode(failure.cleaned))


def _gradients(failure: Failure, inputs: Tensor, *, trained: bool = False) -> tuple[Tensor, Tensor]:
    """The loss -sum_j log P(reply_j | prompt, reply_<j) at prompt embeddings [N, T, D], [N], and its gradient [N, T, D]."""
    backbone = failure.backbone
    reply = backbone.encode_reply(failure.reply, kind=failure.prompt.kind, complete=False)
    count, length, _ = inputs.shape
    with torch.enable_grad():
        points = inputs.detach().clone().requires_grad_(True)
        said = backbone.embed(reply).expand(count, -1, -1)
        places = torch.zeros(count, length + len(reply) - 1, dtype=torch.bool, device=inputs.device)
        places[:, length - 1:] = True
        model: Any = predicting(backbone.model, places)
        whole = torch.cat([points, said], dim=1)[:, :-1]
        positions = torch.arange(whole.shape[1], device=inputs.device)[None]
        logits = model(inputs_embeds=whole, position_ids=positions, use_cache=False).logits[0].float()
        targets = torch.tensor(reply, device=inputs.device).repeat(count)
        loss = functional.cross_entropy(logits, targets, reduction="none").view(count, -1).sum(1)
        gradient, = torch.autograd.grad(loss.sum(), points, create_graph=trained)
    return loss.detach(), (gradient if trained else gradient.detach()).float()


def two_means(scores: Sequence[float]) -> list[int]:
    """The indices in the cluster of higher mean: k-means with K = 2 in one dimension, solved exactly by trying every cut.

    Equal scores stay together; without two different scores nothing is in it.
    """
    order = sorted(range(len(scores)), key=lambda k: scores[k])
    best, cut = float("inf"), len(order)
    for at in range(1, len(order)):
        if scores[order[at]] > scores[order[at - 1]]:
            spread = sum(_spread([scores[k] for k in part]) for part in (order[:at], order[at:]))
            if spread < best:
                best, cut = spread, at
    return sorted(order[cut:])


def _spread(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)
