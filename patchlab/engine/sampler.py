"""Samples next tokens with noise that depends on a row's identity and not on its place in a batch.

The noise of a row is a function of (seed, prompt, sample, step). A row samples the same tokens alone and in any batch, and all
lanes of a prompt share their noise, so that differences between lanes are caused by the patch and not by sampling.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from patchlab.errors import InputError
from patchlab.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How replies are sampled.

    Temperature 0 is greedy decoding; `top_p` below 1 is nucleus sampling; a reply ends before the first of the stop strings
    in `until`. Raises InputError for a value out of range.
    """

    temperature: float = 0.8
    max_new_tokens: int = 64
    seed: int = 0
    top_p: float = 1.0
    until: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check("temperature", self.temperature, 0, 5)
        self._check("max_new_tokens", self.max_new_tokens, 1, 100_000, whole=True)
        self._check("seed", self.seed, 0, 2**63 - 1, whole=True)
        self._check("top_p", self.top_p, 0.01, 1)
        if not (isinstance(self.until, tuple) and all(isinstance(string, str) and string for string in self.until)):
            raise InputError(f"until {str(self.until)[:80]!r}", expected="a tuple of strings, none empty", do="change until")

    @staticmethod
    def _check(name: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            raise InputError(f"{name} {value}", expected=f"a {'whole ' if whole else ''}number from {low} to {high}",
                             do=f"change {name}")


@dataclass(frozen=True, slots=True)
class RowKey:
    """The identity of a row's noise."""

    seed: int
    prompt: int
    sample: int

    @classmethod
    def of(cls, prompt: Prompt, *, sample: int, seed: int) -> RowKey:
        """The key of one sample of a prompt, from its text and earlier turns but not its system message."""
        text = replace(prompt, kind="chat", system="").key if prompt.earlier else prompt.text
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return cls(seed, int.from_bytes(digest[:8], "big"), sample)


BROKEN = -1  # returned instead of a token for logits that are not finite

Place = tuple[RowKey, int]  # a row's noise at one step
_UNREAD = np.zeros(4, dtype=np.uint64)  # Philox generates four words at a time; none may be left over from an earlier row


class _Generator(threading.local):
    """One generator per thread, reset for each row: creating one takes as long as three rows of noise."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(key=0)
        self.draw = np.random.Generator(self.bits).standard_exponential


_generator = _Generator()


def gumbel(places: Sequence[Place], *, size: int) -> np.ndarray:
    """Gumbel noise [N, size] float32, one row per place; a larger size only appends to each row."""
    noise = np.empty((len(places), size), dtype=np.float32)
    for line, (key, step) in zip(noise, places, strict=True):
        _generator.bits.state = {
            "bit_generator": "Philox", "buffer": _UNREAD, "buffer_pos": len(_UNREAD), "has_uint32": 0, "uinteger": 0,
            "state": {"key": np.array([key.seed, key.prompt], dtype=np.uint64),
                      "counter": np.array([0, 0, step, key.sample], dtype=np.uint64)}}
        _generator.draw(dtype=np.float32, out=line)
    noise += 1e-30  # avoids log(0); all rows at once and in place, since this runs at every step
    np.log(noise, out=noise)
    return np.negative(noise, out=noise)


def choose(logits: Tensor, keys: Sequence[RowKey], *, step: int | Sequence[int], sampling: Sampling) -> list[int]:
    """The next token of each row of `logits` [B, V], BROKEN for a row that is not finite; `step` is one for all or a list."""
    scaled = logits.float()
    if sampling.temperature == 0:
        return _likeliest(scaled.cpu().numpy())
    scaled = scaled / sampling.temperature
    if sampling.top_p < 1:
        scaled = _nucleus(scaled, sampling.top_p)
    places = list(zip(keys, [step] * len(keys) if isinstance(step, int) else step, strict=True))
    lines = {place: line for line, place in enumerate(dict.fromkeys(places))}  # lanes share noise
    noise = gumbel(list(lines), size=scaled.shape[-1])  # on the CPU while an accelerator still computes the logits
    values = scaled.cpu().numpy()  # NumPy's argmax is faster than moving the noise to the device
    return _likeliest(np.add(noise, values, out=noise) if len(lines) == len(places)
                      else values + noise[[lines[place] for place in places]])


def _likeliest(values: np.ndarray) -> list[int]:
    best = values.argmax(-1)
    finite = np.isfinite(values[np.arange(len(values)), best])  # argmax returns the first NaN if there is one
    return np.where(finite, best, BROKEN).tolist()


def _nucleus(scaled: Tensor, top_p: float) -> Tensor:
    """Mask all tokens but the smallest set whose probabilities sum to at least `top_p`."""
    ordered, order = scaled.softmax(-1).sort(-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p
    return scaled.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
