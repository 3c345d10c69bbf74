"""What makes the other methods of benchmarks/quality/methods.py as well tuned as ours: a grid of learning rates whose best is
not at its edge, and the KL term to the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine.likelihood import Texts

FURTHER = 4  # rates that a grid may grow by


def best_rate(pilot: Callable[[float], float], rates: Sequence[float]) -> tuple[float, list[float]]:
    """The rate whose short training comes lowest, and all that were tried.

    While the best is the smallest or largest one, the grid grows beyond it by the factor of its first two rates. A single rate
    is taken as it is.
    """
    if len(rates) == 1:
        return rates[0], list(rates)
    losses = {rate: pilot(rate) for rate in sorted(rates)}
    smallest, second, *_ = losses
    for _ in range(FURTHER):
        best = min(losses, key=lambda rate: losses[rate])
        if min(losses) < best < max(losses):
            break
        beyond = best * second / smallest if best == max(losses) else best * smallest / second
        losses[beyond] = pilot(beyond)
    return min(losses, key=lambda rate: losses[rate]), sorted(losses)


def held(trainer: type[Any], batches: Sequence[Texts], weight: float) -> type[Any]:
    """A trainer of trl whose loss has the term that ours has: `weight` x KL(base || method) on the base's own replies."""
    if not weight:
        return trainer

    class Held(trainer):  # type: ignore[misc]  # a class that is given
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            """The trainer's own loss and the term."""
            found = super().compute_loss(model, inputs, *args, **options)
            term = weight * divergence(model, batches[self.state.global_step % len(batches)])
            return (found[0] + term, *found[1:]) if isinstance(found, tuple) else found + term

    return Held


def divergence(model: Any, texts: Texts) -> Tensor:
    """KL(base || base with the adapter), mean nats a reply token; gradients flow to the adapter."""
    def logits() -> Tensor:
        """Of the reply tokens [N, V]; virtual tokens stand before the text, padding behind it."""
        found = model(input_ids=texts.ids, attention_mask=torch.ones_like(texts.ids)).logits
        return found[:, found.shape[1] - texts.ids.shape[1]:-1][texts.predicts].float().log_softmax(-1)

    with torch.no_grad(), model.disable_adapter():
        target = logits()
    return functional.kl_div(logits(), target, reduction="none", log_target=True).sum(-1).mean()
