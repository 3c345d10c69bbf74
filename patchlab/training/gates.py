"""Fits a patch's gate: which prompts the patch is for, read from the frozen base's hidden state at their last token.

Logistic regression with an L2 term on standardised states, deterministic. Calibration prompts choose the layer and the weight of
that term, by the lowest cross-entropy, and set the threshold, recall first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from patchlab.engine.gates import states
from patchlab.errors import InputError, ModelError, NotFoundError, TrainingError
from patchlab.models import Backbone
from patchlab.patches import Gate
from patchlab.records import Progress, Prompt
from patchlab.storage import write_atomic
from patchlab.training.config import IMPROVES

LAYERS = 8  # tried at most, evenly spaced over the base's own
L2 = 0.01, 0.1  # on standardised states; the calibration prompts choose
REPORTED = 256  # prompts between two reports


@dataclass(frozen=True, slots=True)
class Fitted:
    """A gate and its errors on calibration prompts.

    Of `own` prompts of the patch's domain it is off for `missed`, of `others` it is on for `kept`.
    """

    gate: Gate
    missed: int
    own: int
    kept: int
    others: int


class _Probe(NamedTuple):
    """A linear probe on standardised states: score = (state - mean) / scale . weight + bias, in float64."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, found: Tensor) -> Tensor:
        """One score a state [N]."""
        return (found - self.mean) / self.scale @ self.weight + self.bias


def fit_gate(backbone: Backbone, domain: str, prompts: Sequence[Prompt], dev: Sequence[Prompt], *,
             improves: Sequence[str] = (), missed: float = 0.01, kept: float = 0.01,
             cache: Path | None = None) -> Generator[Progress, None, Fitted]:
    """Fit a gate for a patch of a domain: its prompts against all others; yields progress and returns it.

    Its prompts are those of the domains it `improves`, as its recipe says; by default those of IMPROVES. `dev` are the
    calibration prompts. The gate is off for at most the share `missed` of the domain's. Where that leaves room, the threshold
    falls until it is on for the share `kept` of the others: for a prompt unlike all seen the patch is then on.
    `cache` is a file for the states of prompts, so that the gates of several patches read them once.
    Raises TrainingError where either kind of prompts is absent from `prompts` or `dev`, ModelError for a base whose layers are
    not as wide as its embeddings.
    """
    if domain not in IMPROVES and not improves:
        raise InputError(f"a patch of domain {domain!r}", expected="the domains of prompts that it is for",
                         do="say by improves which they are, as its recipe does")
    for name in improves:
        if name not in (known := {prompt.domain for prompt in prompts}):
            raise NotFoundError.of("domain to improve", name, known)
    domains = improves or IMPROVES[domain]
    own, asked = _labels(domains, prompts, "training"), _labels(domains, dev, "calibration")
    if backbone.model.config.hidden_size != backbone.width:
        raise ModelError(f"base {backbone.name} with layers {backbone.model.config.hidden_size} wide",
                         expected=f"as wide as its embeddings, {backbone.width}", do="use the patch without a gate")
    count = len(backbone.layers)
    layers = sorted({count - 1 - k * count // min(count, LAYERS) for k in range(min(count, LAYERS))})
    read = yield from _read(backbone, [*prompts, *dev], layers, cache)
    tried: list[tuple[float, int, _Probe]] = []
    for k, layer in enumerate(layers):
        for l2 in L2:
            probe = _probe(read[:len(prompts), k], own, l2)
            loss = float(functional.binary_cross_entropy_with_logits(probe.scores(read[len(prompts):, k]), asked.double()))
            tried.append((loss, layer, probe))
        loss = min(loss for loss, at, _ in tried if at == layer)
        yield Progress("gate", k + 1, len(layers), f"layer {layer}: calibration cross-entropy {loss:.4f}", {"loss": loss})
    _, layer, probe = min(tried, key=lambda each: each[:2])
    found = probe.scores(read[len(prompts):, layers.index(layer)])
    at = threshold(found[asked].tolist(), found[~asked].tolist(), missed=missed, kept=kept)
    weight = probe.weight / probe.scale
    gate = Gate(layer, weight.numpy().astype(np.float32), float(probe.bias - weight @ probe.mean) - at)
    return Fitted(gate, int((found[asked] < at).sum()), int(asked.sum()), int((found[~asked] >= at).sum()), int((~asked).sum()))


def threshold(own: Sequence[float], others: Sequence[float], *, missed: float, kept: float) -> float:
    """The score from which a gate is on, by the shares of `fit_gate`; half-way between two, so that rounding flips none."""
    ceiling = sorted(own)[min(int(missed * len(own)), len(own) - 1)]
    floor = sorted(others, reverse=True)[min(int(kept * len(others)), len(others) - 1)]
    every = [*own, *others]
    lowest_kept = min([ceiling, *(score for score in every if score > floor)])
    below = max((score for score in every if score < lowest_kept), default=lowest_kept - 2)
    return (lowest_kept + below) / 2


def _labels(domains: Sequence[str], prompts: Sequence[Prompt], what: str) -> Tensor:
    """Which prompts are of these domains [N]."""
    labels = torch.tensor([prompt.domain in domains for prompt in prompts], dtype=torch.bool)
    if labels.all() or not labels.any():
        raise TrainingError(f"{int(labels.sum())} of {len(labels)} {what} prompts of domain {' or '.join(domains)}",
                            expected="some of it and some of others", do="give prompts of both kinds")
    return labels


def _read(backbone: Backbone, prompts: Sequence[Prompt], layers: Sequence[int],
          cache: Path | None) -> Generator[Progress, None, Tensor]:
    """The states [N, layers, D] of prompts, in float64; those that the file holds are not read again."""
    rows = [backbone.encode(prompt) for prompt in prompts]
    keys = [hashlib.sha256(json.dumps([backbone.identity.fingerprint, layers, row]).encode()).hexdigest() for row in rows]
    known = load_file(cache) if cache and cache.is_file() else {}
    missing = [k for k, key in enumerate(keys) if key not in known]
    for at in range(0, len(missing), REPORTED):
        some = missing[at:at + REPORTED]
        known |= {keys[k]: state for k, state in zip(some, states(backbone, [rows[k] for k in some], layers), strict=True)}
        yield Progress("states", min(at + REPORTED, len(missing)), len(missing))
    if cache and missing:
        write_atomic(cache, lambda part: save_file({key: state.contiguous() for key, state in known.items()}, part))
    return torch.stack([known[key] for key in keys]).double()


def _probe(found: Tensor, labels: Tensor, l2: float) -> _Probe:
    """The probe of least loss on states [N, D]; the problem is convex, so the start has no part in it."""
    mean, scale = found.mean(0), found.std(0).clamp(min=1e-6)
    ready, wanted = (found - mean) / scale, labels.double()
    weight = torch.zeros(found.shape[1], dtype=torch.float64, requires_grad=True)
    share = float(wanted.mean())
    bias = torch.tensor(math.log(share / (1 - share)), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.binary_cross_entropy_with_logits(ready @ weight + bias, wanted) + l2 / 2 * weight @ weight
        value.backward()
        return value

    solver.step(loss)
    return _Probe(mean, scale, weight.detach(), bias.detach())
