"""Rows of an interaction matrix made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patchlab.patches import Manifest
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, label
from patchlab.patches.stack import Mode

DIGESTS = {"refusal": "1" * 64, "toxicity": "2" * 64, "bias": "3" * 64}


def saved(manifest: Manifest, name: str, *, version: str = "1.0.0", digest: str = "") -> Manifest:
    """A manifest of that name as if it had been saved."""
    return replace(manifest, name=name, version=version, title=name.capitalize(), supersedes=(), conflicts=(),
                   files={"patch.json": digest or DIGESTS.get(name, "9" * 64)})


def change(value: float, low: float, high: float, *, unit: str = "points", against: str = "refusal@1.0.0") -> Change:
    return Change((against,), value, low, high, 4, unit)  # type: ignore[arg-type]


def cell(suite: str = "refusal", metric: str = "refusal_rate", patch: str = "", *, than: Change | None = None) -> Cell:
    return Cell(suite, metric, patch, 0.5, 0.25, 0.75, 4, "refusal", "a" * 64, (0.0, 1.0, None, 0.5, 0.5), than)


def pair(first: Manifest, second: Manifest, *cells: Cell, mode: Mode = "parallel") -> InteractionRow:
    return InteractionRow(first.base.fingerprint, (label(first), label(second)), mode, {"n": "4"}, cells)


def known(rows: Sequence[InteractionRow], *manifests: Manifest) -> Interactions:
    """These rows with the digests of the patches as they are."""
    return Interactions(tuple(rows), {label(manifest): manifest.digest for manifest in manifests})
