"""Gradients at the prompt's embeddings, and the exact 2-means of their sizes."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from patchlab.models import Backbone
from patchlab.records import Prompt
from patchlab.repair import Failure
from patchlab.repair.saliency import _embeddings, _gradients, gradient_norm, gradient_times_input, integrated_gradients, two_means


def test_gradients_are_those_of_the_reply_s_loss(backbone: Backbone) -> None:
    """Every family: against finite differences of the loss in random directions."""
    failure = Failure(backbone, Prompt("the bus is late"), "so it is")
    inputs = _embeddings(failure)
    loss, gradient = _gradients(failure, inputs[None])
    assert float(loss[0]) == pytest.approx(failure.surprise * len(backbone.encode_reply("so it is", complete=False)), rel=1e-3)
    for seed in range(2):
        way = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed))
        way = way / way.norm() * 1e-2
        ahead, back = (float(_gradients(failure, (inputs + sign * way)[None])[0][0]) for sign in (1, -1))
        assert (ahead - back) / 2 == pytest.approx(float((gradient[0] * way).sum()), rel=0.05, abs=2e-3)


def test_scores_have_one_number_a_token_and_agree_on_their_gradients(llama: Backbone) -> None:
    failure = Failure(llama, Prompt("the bus is late"), "so it is")
    length = len(llama.encode(failure.prompt))
    _, gradient = _gradients(failure, _embeddings(failure)[None])
    torch.testing.assert_close(gradient_norm(failure), gradient[0].norm(dim=-1))
    torch.testing.assert_close(gradient_times_input(failure), (gradient[0] * _embeddings(failure)).sum(-1).abs())
    assert integrated_gradients(failure).shape == (length,) and bool(integrated_gradients(failure).isfinite().all())


def test_integrated_gradients_add_up_to_the_change_of_the_loss(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Completeness (Sundararajan et al., proposition 1), with their signs."""
    monkeypatch.setattr("patchlab.repair.saliency.STEPS", 256)
    monkeypatch.setattr(torch.Tensor, "abs", lambda self: self)
    failure = Failure(llama, Prompt("the bus"), "so")
    inputs = _embeddings(failure)
    start = llama.embeddings.detach().float().mean(0).expand_as(inputs)
    ends = [float(_gradients(failure, point[None])[0][0]) for point in (start, inputs)]
    assert float(integrated_gradients(failure).sum()) == pytest.approx(ends[1] - ends[0], abs=0.05)


def test_two_means_are_the_best_two_groups() -> None:
    def cost(groups: tuple[list[float], list[float]]) -> float:
        return sum(sum((value - sum(group) / len(group)) ** 2 for value in group) for group in groups)

    rng = random.Random(0)
    for _ in range(200):
        scores = [round(rng.choice((rng.gauss(0, 1), rng.gauss(4, 1))), 2) for _ in range(rng.randint(2, 8))]
        chosen = two_means(scores)
        splits = [[k for k, high in enumerate(mask) if high] for mask in itertools.product((0, 1), repeat=len(scores))
                  if 0 < sum(mask) < len(scores)]
        best = min(cost(([scores[k] for k in some], [s for k, s in enumerate(scores) if k not in some])) for some in splits)
        if len({*scores}) > 1:
            rest = [score for k, score in enumerate(scores) if k not in chosen]
            assert cost(([scores[k] for k in chosen], rest)) == pytest.approx(best)
            assert min(scores[k] for k in chosen) > max(rest)
    assert two_means([1.0, 1.0]) == [] == two_means([1.0])
