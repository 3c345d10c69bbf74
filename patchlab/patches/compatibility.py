"""Warnings about a stack: patches that supersede each other, conflicts declared in manifests, pairs measured to fight.

A stack with warnings still runs: whether to use it is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import permutations

from patchlab.patches.interactions import Cell, InteractionRow, Interactions, label
from patchlab.patches.manifest import Manifest
from patchlab.patches.stack import Mode

Called = Callable[[Manifest], str]  # the words for a patch in a sentence

SIDE = {"parallel": "side by side", "sequential": "in this order", "blend": "blended"}


def supersedes(one: Manifest, other: Manifest) -> bool:
    """Whether `one` names `other` in `supersedes`, on the same base.

    A patch that names itself without a version means its own older versions.
    """
    if one.base.fingerprint != other.base.fingerprint or label(one) == label(other):
        return False
    if one.name == other.name and one.name in one.supersedes and one.order > other.order:
        return True
    return label(other) in one.supersedes or (other.name in one.supersedes and one.name != other.name)


def superseded_by(manifest: Manifest, others: Iterable[Manifest]) -> list[Manifest]:
    """Those of `others` that supersede `manifest`."""
    return [other for other in others if supersedes(other, manifest)]


def conflicts(one: Manifest, other: Manifest) -> bool:
    """Whether `one` names `other` in `conflicts`."""
    return label(one) != label(other) and bool({other.name, label(other)} & {*one.conflicts})


def warnings(manifests: Sequence[Manifest], mode: Mode, interactions: Interactions, *, fingerprints: Collection[str] = (),
             called: Called = lambda manifest: repr(manifest.name)) -> list[str]:
    """One sentence for each warning about a stack of these patches, in this order; an empty list without any.

    `fingerprints` are those of the base in use: measurements on other bases are ignored. Without fingerprints, measurements
    on the bases that the patches were made for are used.
    """
    measured = interactions.fights(manifests, mode, fingerprints=fingerprints)
    return list(dict.fromkeys([*_declared(manifests, called), *_measured(manifests, measured, mode, called)]))


def _declared(manifests: Sequence[Manifest], called: Called) -> Iterator[str]:
    reported: set[frozenset[str]] = set()
    for one, other in permutations(manifests, 2):
        if supersedes(one, other):
            yield (f"{called(one)} takes the place of {called(other)} (its manifest lists {label(other)} under supersedes): use "
                   "one of them.")
        pair = frozenset((one.name, other.name))
        if conflicts(one, other) and pair not in reported:
            reported.add(pair)
            yield f"{called(one)} and {called(other)} should not be on together: the manifest of {called(one)} lists a conflict."


def _measured(manifests: Sequence[Manifest], rows: Iterable[InteractionRow], mode: Mode, called: Called) -> Iterator[str]:
    names = {label(manifest): called(manifest) for manifest in manifests}
    for row in rows:
        *others, last = (names[name] for name in row.stack)
        counts = sorted({cell.change.n for cell in row.fights if cell.change})
        n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        losses = ", ".join(_loss(cell, names) for cell in row.fights)
        yield f"{', '.join(others)} and {last} are known to fight {SIDE[mode]}: {losses}; 95 % intervals, n = {n}."


def _loss(cell: Cell, names: dict[str, str]) -> str:
    """The change of one figure of `InteractionRow.fights`, as a clause."""
    assert cell.change is not None
    interval = f"({-cell.change.high:.1f} to {-cell.change.low:.1f})"
    if cell.patch:
        return f"{names[cell.patch]} loses {-cell.change.value:.1f} points of its own effect {interval}"
    return f"harmless requests are refused {-cell.change.value:.1f} points more often {interval}"
