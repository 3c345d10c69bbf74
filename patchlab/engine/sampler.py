"""Chooses next tokens with noise that belongs to a row's identity and not to its place in a batch.

The noise of a row is a function of (seed, prompt, sample, step). A row alone and the same row in any batch draw the same
tokens, and lanes of a trio share their noise, so that a difference between columns is the patch's doing and not luck.
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
    """How replies are drawn.

    Temperature 0 takes the likeliest token; `top_p` below 1 leaves out the tail; a reply ends before the first of the strings
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
        """The key of one sample of a prompt: the prompt counts by its text and the turns before, whatever lane asks."""
        asked = replace(prompt, kind="chat", system="").key if prompt.earlier else prompt.text
        digest = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).digest()
        return cls(seed, int.from_bytes(digest[:8], "big"), sample)


BROKEN = -1  # in place of a token

Place = tuple[RowKey, int]  # a row's noise at one step
_UNREAD = np.zeros(4, dtype=np.uint64)  # Philox makes four words at a time; none of an earlier line may be left to read


class _Generator(threading.local):
    """One generator a thread, set anew for each line: to make one takes as long as three lines of noise."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(key=0)
        self.draw = np.random.Generator(self.bits).standard_exponential


_own = _Generator()


def gumbel(places: Sequence[Place], *, size: int) -> np.ndarray:
    """Gumbel noise [N, size] float32, one line a place; a longer vocabulary only adds to the end of each."""
    noise = np.empty((len(places), size), dtype=np.float32)
    for line, (key, step) in zip(noise, places, strict=True):
        _own.bits.state = {
            "bit_generator": "Philox", "buffer": _UNREAD, "buffer_pos": len(_UNREAD), "has_uint32": 0, "uinteger": 0,
            "state": {"key": np.array([key.seed, key.prompt], dtype=np.uint64),
                      "counter": np.array([0, 0, step, key.sample], dtype=np.uint64)}}
        _own.draw(dtype=np.float32, out=line)
    noise += 1e-30  # a logarithm of all lines at once, and in place: this is done at every step of every row
    np.log(noise, out=noise)
    return np.negative(noise, out=noise)


def choose(logits: Tensor, keys: Sequence[RowKey], *, step: int | Sequence[int], sampling: Sampling) -> list[int]:
    """The next token of each row of `logits` [B, V], BROKEN where they are no numbers.

    `step` is the one that all rows are at, or each its own.
    """
    scaled = logits.float()
    if sampling.temperature == 0:
        return _likeliest(scaled.cpu().numpy())
    scaled = scaled / sampling.temperature
    if sampling.top_p < 1:
        scaled = _nucleus(scaled, sampling.top_p)
    places = list(zip(keys, [step] * len(keys) if isinstance(step, int) else step, strict=True))
    lines = {place: line for line, place in enumerate(dict.fromkeys(places))}  # lanes share their noise
    noise = gumbel(list(lines), size=scaled.shape[-1])  # an accelerator is still at the logits meanwhile
    found = scaled.cpu().numpy()  # one of the two has to move, and here the likeliest is found soonest
    return _likeliest(np.add(noise, found, out=noise) if len(lines) == len(places) else found + noise[[lines[p] for p in places]])


def _likeliest(found: np.ndarray) -> list[int]:
    best = found.argmax(-1)
    finite = np.isfinite(found[np.arange(len(found)), best])  # a maximum is no number where any value is none
    return np.where(finite, best, BROKEN).tolist()


def _nucleus(scaled: Tensor, top_p: float) -> Tensor:
    """Leave the smallest set of tokens whose probabilities reach `top_p`."""
    ordered, order = scaled.softmax(-1).sort(-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p
    return scaled.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
