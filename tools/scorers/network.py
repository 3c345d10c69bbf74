"""Train the convolution of the second toxicity scorer: about a minute on one core, and the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from patchlab.scoring.convolution import FILTERS, WIDTH, WINDOW, Convolution
from patchlab.scoring.hashed_ngrams import NAMES, PLACES, Pieces, pieces
from tools.scorers.linear import Floats

if TYPE_CHECKING:
    from torch import Tensor

BATCH, CHUNK = 64, 50  # rows a step; steps whose rows are sorted by length together, so that little is padding
RATE, DECAY = 3e-3, 3e-3  # of Adam, falling to zero; of the vectors of the pieces of a batch
BLANKED, DROPPED = 0.1, 0.3  # pieces left out of a text, and filters left out of a step


def train(texts: Sequence[str], labels: NDArray[Any], weights: Floats, *, rows: int, steps: int, seed: int = 0) -> Convolution:
    """A convolution with a table of `rows`; texts are drawn in proportion to their weights [N]."""
    import torch

    read = [each if len(each[1]) else (np.zeros((1, NAMES), np.int64), np.zeros(1, np.int64))
            for each in (pieces(text, rows) for text in texts)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order, so that equal inputs give equal bytes
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            means = _optimised(read, labels, weights, rows, steps, seed)
    finally:
        torch.set_num_threads(threads)
    met = np.zeros(rows, bool)
    for found, _ in read:
        met[found.ravel()] = True
    means["table"][~met] = 0  # a row no training text has met says nothing
    return Convolution.of(means)


def _optimised(read: Sequence[Pieces], labels: NDArray[Any], weights: Floats, rows: int, steps: int,
               seed: int) -> dict[str, NDArray[Any]]:
    """The parameters of a model, averaged over the second half of its steps."""
    import torch

    wide = WINDOW * WIDTH
    found = {"table": torch.randn(rows, WIDTH) * 0.1, "places": torch.randn(PLACES, WIDTH) * 0.05,
             "kernel": torch.randn(wide, FILTERS) / wide**0.5, "floor": torch.zeros(FILTERS),
             "out": torch.randn(2 * FILTERS) / (2 * FILTERS)**0.5, "bias": torch.zeros(1)}
    for parameter in found.values():
        parameter.requires_grad_()
    adam = torch.optim.Adam(found.values(), lr=RATE, betas=(0.9, 0.99))
    means = {name: torch.zeros_like(parameter) for name, parameter in found.items()}
    for step, batch in enumerate(_batches([len(places) for _, places in read], weights, steps, seed)):
        adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
        loss = _loss(found, [read[k] for k in batch], torch.from_numpy(labels[batch].astype(np.float32)))
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step >= steps // 2:
            for name, parameter in found.items():
                means[name].lerp_(parameter.detach(), 1 / (step - steps // 2 + 1))
    return {name: mean.numpy() for name, mean in means.items()}


def _batches(sizes: Sequence[int], weights: Floats, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng, length = np.random.default_rng(seed), np.array(sizes)
    drawn = rng.choice(len(length), size=(steps, BATCH), p=weights / weights.sum())
    for start in range(0, steps, CHUNK):
        chunk = drawn[start:start + CHUNK].ravel()
        batches = chunk[np.argsort(length[chunk], kind="stable")].reshape(-1, BATCH)
        yield from batches[rng.permutation(len(batches))]


def _loss(found: dict[str, Tensor], read: Sequence[Pieces], labels: Tensor) -> Tensor:
    """Cross-entropy of a padded batch, pieces and filters dropped at random, plus the decay of the vectors used."""
    import torch

    count = np.array([len(places) for _, places in read])
    rows, places = np.zeros((len(read), count.max(), NAMES), np.int64), np.zeros((len(read), count.max()), np.int64)
    for k, (row, place) in enumerate(read):
        rows[k, :len(place)], places[k, :len(place)] = row, place
    there = torch.from_numpy(np.arange(count.max()) < count[:, None]).float()[..., None]  # [B, T, 1]
    looked = found["table"][torch.from_numpy(rows)]  # [B, T, NAMES, D]
    kept = (torch.rand(there.shape) >= BLANKED).float()
    vectors = (looked.sum(2) * kept + found["places"][torch.from_numpy(places)]) * there
    padded = torch.nn.functional.pad(vectors, (0, 0, 1, 1))
    windows = torch.cat([padded[:, k:k + count.max()] for k in range(WINDOW)], dim=2)
    hits = torch.relu(windows @ found["kernel"] + found["floor"]) * there  # [B, T, F]
    pooled = torch.cat([hits.amax(1), hits.sum(1) / there.sum(1).sqrt()], dim=1)
    logits = torch.nn.functional.dropout(pooled, DROPPED) @ found["out"] + found["bias"]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    return entropy + DECAY * (looked**2).sum() / len(read)
