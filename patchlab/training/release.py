"""What a new patch does to prompts that training never saw, for its manifest: its own suite, harmless requests, drift."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path

from patchlab.engine import Trio
from patchlab.evaluation import evaluate
from patchlab.evaluation.suites import DOMAINS
from patchlab.patches import Patch, Stack
from patchlab.records import Measure, Progress
from patchlab.registry import Registry
from patchlab.training.trainer import release

SUITES = ("overrefusal", "drift")


def judge(trio: Trio, patch: Patch, *, n: int, seed: int, folder: Path) -> Generator[Progress, None, list[Measure]]:
    """Evaluate `patch` alone, at its calibrated strength, on `n` prompts a suite; returns its measures.

    The patch, still without evidence, is left in `folder`.
    """
    release(patch, folder)
    own = [patch.manifest.domain] if patch.manifest.domain in DOMAINS else []  # a domain of its own has no suite here
    alone = Trio(trio.base, trio.reference, registry=Registry([folder]), preset=trio.preset)
    measures: list[Measure] = []
    for found in evaluate(alone, stack=Stack.parse(patch.manifest.name), suites=[*own, *SUITES], n=n,
                          seed=seed, lanes=["base", "patched"]):
        if isinstance(found, Progress):
            yield Progress(f"judge {found.stage}", found.done, found.total, found.message)
        else:
            measures = [m for m in found.measures if m.lane == "patched" and not math.isnan(m.value)]
    return measures
