"""What the fuzz tests share: how many inputs each takes, texts that trouble readers, and files with bytes changed.

PATCHLAB_FUZZ=full takes 20,000 new inputs each (`python -m tests.fuzz`); otherwise a tenth, always the same ones, and fewer
still where one input takes more than a millisecond, so that all of it runs in 45 seconds on one core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FULL = os.environ.get("PATCHLAB_FUZZ") == "full"
INPUTS = 20_000


def inputs(share: float = 1.0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: `share` of the inputs of a short run; a full run takes all."""
    return settings(max_examples=INPUTS if FULL else round(INPUTS / 10 * share), deadline=None, database=None,
                    derandomize=not FULL, suppress_health_check=list(HealthCheck))


TROUBLE = ("", " ", "\n", "\r\n", "\r", ",", '"', '""', "\t", "\ufeff", "\u2028", "\x00", "é", "😀", "{", "[", "\\", "null",
           "NaN", "0", "-1", "1e999", "none", "a@1.0.0:0.5", "=1+1", "x" * 300)
texts = st.one_of(st.sampled_from(TROUBLE), st.text(max_size=12))
encodable = st.one_of(st.sampled_from(TROUBLE), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
                      max_leaves=6)


def changed(files: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of `files` with up to four of its places overwritten, cut or filled in, seldom none."""
    edit = st.tuples(st.floats(0, 1), st.integers(0, 8), st.one_of(st.sampled_from([t.encode() for t in TROUBLE]),
                                                                  st.binary(max_size=3)))

    def apply(file: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
        for place, gone, new in edits:
            at = round(place * len(file))
            file = file[:at] + new + file[at + gone:]
        return file

    return st.builds(apply, st.sampled_from(files), st.lists(edit, max_size=4))
