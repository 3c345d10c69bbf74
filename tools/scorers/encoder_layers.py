"""Tune the sentence encoder with low-rank changes of its upper layers, and a linear head over the mean of their states.

The change of a weight is `up @ down` with RANK rows: 1 MB for four layers, added to the encoder's own weights once, when a scorer
is loaded. Products run in bfloat16, which a CPU with AMX or AVX512-BF16 computes several times faster.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from patchlab.scoring.sentence_encoder import SentenceEncoder, readable

FIRST_TUNED, RANK = 2, 16
BATCH, RATE, WARMUP = 64, 1e-3, 60
TOKENS = 72  # of a training row; longer ones are cut
_WEIGHTS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
            "intermediate.dense", "output.dense")


class LowRank(nn.Module):
    """A linear layer with a low-rank change: `linear(x) + x down^T up^T`; zero at the start."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [..., in] to [..., out]."""
        return torch.as_tensor(self.linear(x) + (x @ self.down.T) @ self.up.T)


def add_low_rank(model: Any) -> dict[str, LowRank]:
    """Put a low-rank change on every weight of the layers from FIRST_TUNED on; by the names of the weights."""
    found = {}
    for at in range(FIRST_TUNED, len(model.encoder.layer)):
        for name in _WEIGHTS:
            path = f"encoder.layer.{at}.{name}"
            parent, _, last = path.rpartition(".")
            found[path] = LowRank(model.get_submodule(path), RANK)
            setattr(model.get_submodule(parent), last, found[path])
    return found


@dataclass(frozen=True)
class Rows:
    """Rows to fit on: texts, labels [N] in {0, 1}, weights [N], and origins [N] (-1: of none)."""

    texts: Sequence[str]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]
    origins: NDArray[np.int64]


def tune(encoder: SentenceEncoder, rows: Rows, *, steps: int, seed: int = 0) -> dict[str, NDArray[np.float16]]:
    """Tune `encoder` in place of its own weights and return the changes: NAME.down [RANK, in] and NAME.up [out, RANK].

    What a label means differs from origin to origin: each gets an intercept of its own while fitting, which is then left out.
    """
    torch.manual_seed(seed)
    changes = add_low_rank(encoder.model)
    head = nn.Linear(encoder.model.config.hidden_size, 1)
    intercepts = nn.Parameter(torch.zeros(int(rows.origins.max()) + 2))
    low = [each for change in changes.values() for each in (change.down, change.up)]
    groups: list[dict[str, Any]] = [{"params": low}, {"params": head.parameters()}, {"params": [intercepts], "lr": 5 * RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * max(0.02, 1 - step / steps))
    ids = encoder.tokenizer([readable(text) for text in rows.texts], truncation=True, max_length=TOKENS)["input_ids"]
    sizes = np.array([len(each) for each in ids])
    encoder.model.train()
    started, mean = time.time(), 0.7
    for step, drawn in enumerate(_batches(rows.weights, sizes, steps, np.random.default_rng(seed))):
        with torch.autocast("cpu", torch.bfloat16):
            vectors = _means(encoder.model, [ids[i] for i in drawn])
        origin = torch.tensor(rows.origins[drawn])
        logits = head(vectors.float())[:, 0] + intercepts[origin] * (origin >= 0)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(rows.labels[drawn], dtype=torch.float32))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(low, 1.0)
        optimizer.step()
        schedule.step()
        mean += 0.02 * (loss.item() - mean)
        if step % 50 == 0:
            print(f"step {step} of {steps}, loss {mean:.3f}, {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    encoder.model.eval()
    found = {f"{name}.{part}": getattr(change, part).detach().numpy().astype(np.float16)
             for name, change in changes.items() for part in ("down", "up")}
    return found


def _means(model: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    size = max(map(len, ids))
    tokens = torch.tensor([[*each, *[0] * (size - len(each))] for each in ids])
    mask = torch.tensor([[1] * len(each) + [0] * (size - len(each)) for each in ids])
    states = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    return torch.as_tensor((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def _batches(weights: NDArray[np.float64], sizes: NDArray[np.int64], steps: int,
             rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of rows drawn by weight, rows of like length together."""
    for start in range(0, steps, 8):
        rows = rng.choice(len(weights), size=BATCH * min(8, steps - start), p=weights / weights.sum())
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        for at in rng.permutation(len(rows) // BATCH):
            yield rows[at * BATCH:(at + 1) * BATCH]
