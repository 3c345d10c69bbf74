"""Writing a trained patch, and its evidence: its effect on prompts that training never saw."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from pathlib import Path

from patchlab.engine import Lab
from patchlab.evaluation import evaluate
from patchlab.evaluation.suites import DOMAINS
from patchlab.patches import Patch, Stack
from patchlab.records import Measure, Progress
from patchlab.registry import Registry

SUITES = ("overrefusal", "drift")  # measured beside the suite of the patch's own domain


def release(patch: Patch, folder: Path, *, evidence: Sequence[Measure] = ()) -> Path:
    """Write a trained patch with its evidence under `folder`; returns the patch's own folder."""
    manifest = dataclasses.replace(patch.manifest, evidence=tuple(evidence))
    return dataclasses.replace(patch, manifest=manifest).save_pretrained(folder / manifest.folder_name)


def judge(lab: Lab, patch: Patch, *, n: int, seed: int, folder: Path) -> Generator[Progress, None, list[Measure]]:
    """Evaluate `patch` alone, at its calibrated strength, on `n` prompts a suite; returns its measures.

    The patch, still without evidence, is written to `folder`.
    """
    release(patch, folder)
    own = [patch.manifest.domain] if patch.manifest.domain in DOMAINS else []  # a domain of its own has no suite here
    alone = Lab(lab.base, lab.reference, registry=Registry([folder]), name=lab.name)
    measures: list[Measure] = []
    for found in evaluate(alone, stack=Stack.parse(patch.manifest.name), suites=[*own, *SUITES], n=n,
                          seed=seed, lanes=["base", "patched"]):
        if isinstance(found, Progress):
            yield Progress(f"judge {found.stage}", found.done, found.total, found.message)
        else:
            measures = [m for m in found.measures if m.lane == "patched" and not math.isnan(m.value)]
    return measures
