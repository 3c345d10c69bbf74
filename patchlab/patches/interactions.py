"""What patches do to each other: measured rows of one patch and of two, as checked, frozen values. Knows no models.

A row stands for the bytes it was measured with: the digest of each of its patches is kept, and a row whose patch has
changed since is stale and not used. A value that is wrong cannot exist, so what is written can always be read again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, NoReturn, get_args

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import Manifest, is_name, is_version
from patchlab.patches.stack import MODES, Mode

OWN_LOSS = 5.0  # points of its own effect that a patch may lose beside another
HARMLESS_REFUSED = 2.0  # points by which two patches may refuse more harmless requests than the worse of them alone
HARMLESS_SUITE, HARMLESS_METRIC = "overrefusal", "refusal_rate"

Unit = Literal["points", "nats"]
Labels = tuple[str, ...]  # patches as name@version, in the order of a stack
Key = tuple[str, str, Labels]


def label(manifest: Manifest) -> str:
    """A patch as `name@version`."""
    return f"{manifest.name}@{manifest.version}"


@dataclass(frozen=True, slots=True)
class Change:
    """How far a figure is from that of the stack `against` on the same `n` prompts, with its 95 % interval.

    Positive is better. The unit of a share is points, hundredths; of a distance it is nats.
    """

    against: Labels
    value: float
    low: float
    high: float
    n: int
    unit: Unit

    def __post_init__(self) -> None:
        _labels(self.against, "against", most=1)
        _interval(self)
        _require(self.unit in get_args(Unit), "unit", self.unit, f"one of: {', '.join(get_args(Unit))}")

    @property
    def known(self) -> bool:
        """Whether there is a number at all."""
        return math.isfinite(self.value)

    def worse_by(self, limit: float) -> bool:
        """Whether it is worse by more than `limit`, and its whole interval is on the worse side of zero."""
        return self.value < -limit and self.high < 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a row: a suite's metric with its 95 % interval over `n` prompts and who scored it.

    `patch` is whose own effect the figure is, empty for what concerns the whole stack. `values` holds one number a
    prompt, None where there is none; with them a later row is compared on the same prompts.
    """

    suite: str
    metric: str
    patch: str
    value: float
    low: float
    high: float
    n: int
    scorer: str
    digest: str
    values: tuple[float | None, ...]
    change: Change | None = None

    def __post_init__(self) -> None:
        for name in ("suite", "metric", "scorer"):
            _text(getattr(self, name), name)
        if self.patch != "":
            _label(self.patch, "patch")
        _text(self.digest, "digest")
        _interval(self)
        _require(isinstance(self.values, tuple) and len(self.values) <= 100_000
                 and all(value is None or _is_number(value) for value in self.values),
                 "values", self.values, "one finite number or nothing a prompt")
        _require(sum(value is not None for value in self.values) == self.n, "n", self.n, "as many as values has numbers")
        _require(self.change is None or isinstance(self.change, Change), "change", self.change, "a change or nothing")


@dataclass(frozen=True, slots=True)
class Row:
    """What one stack was measured to do on the base with this fingerprint: no patch, one, or two.

    `settings` say how it was measured: rows with equal settings were asked the same. Raises PatchFormatError.
    """

    base: str
    stack: Labels
    mode: Mode
    settings: Mapping[str, str] = field(hash=False)
    cells: tuple[Cell, ...] = ()

    def __post_init__(self) -> None:
        _text(self.base, "base")
        _labels(self.stack, "stack", most=2)
        _require(self.mode in MODES, "mode", self.mode, f"one of: {', '.join(MODES)}")
        _require(isinstance(self.settings, dict) and len(self.settings) <= 50, "settings", self.settings, "words by name")
        for name, words in self.settings.items():
            _text(name, "settings")
            _text(words, f"settings.{name}")
        _require(isinstance(self.cells, tuple) and len(self.cells) <= 200
                 and all(isinstance(cell, Cell) for cell in self.cells), "cells", self.cells, "cells, 200 at most")
        places = [(cell.suite, cell.metric, cell.patch) for cell in self.cells]
        _require(len(places) == len(set(places)), "cells", places, "each figure once")
        _require(all(not cell.patch or cell.patch in self.stack for cell in self.cells), "patch", places, "one of the stack's")

    @property
    def key(self) -> Key:
        """What may stand once: without patches the mode means nothing, and only a sequence has an order."""
        ordered = self.stack if self.mode == "sequential" else tuple(sorted(self.stack))
        return self.base, self.mode if self.stack else "", ordered

    def cell(self, suite: str, metric: str, patch: str = "") -> Cell | None:
        """The figure at this place, if it was measured."""
        return next((c for c in self.cells if (c.suite, c.metric, c.patch) == (suite, metric, patch)), None)

    @property
    def fights(self) -> tuple[Cell, ...]:
        """The figures of a pair that say its patches fight: a lost own effect, or harmless requests refused."""
        return tuple(cell for cell in self.cells if len(self.stack) == 2 and _is_fight(cell))


@dataclass(frozen=True, slots=True)
class Interactions:
    """Measured rows, each once, and the digest of every patch they were measured with. Raises PatchFormatError."""

    rows: tuple[Row, ...] = ()
    patches: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _require(isinstance(self.rows, tuple) and len(self.rows) <= 10_000 and all(isinstance(row, Row) for row in self.rows),
                 "rows", self.rows, "rows, 10,000 at most")
        _require(isinstance(self.patches, dict), "patches", self.patches, "digests by name@version")
        for name, digest in self.patches.items():
            _label(name, "patches")
            _text(digest, f"patches.{name}")
        keys = [row.key for row in self.rows]
        _require(len(keys) == len(set(keys)), "rows", keys, "each stack once")
        missing = {name for row in self.rows for name in row.stack} - self.patches.keys()
        _require(not missing, "patches", sorted(missing), "a digest of every patch of a row")

    def find(self, base: str, stack: Labels, mode: Mode) -> Row | None:
        """The row of a stack; order counts in sequential mode only."""
        key = Row(base, stack, mode, {}).key
        return next((row for row in self.rows if row.key == key), None)

    def fresh(self, manifests: Iterable[Manifest]) -> Interactions:
        """The rows measured with exactly these patches, and those without any patch."""
        now = {label(manifest): (manifest.digest, manifest.base.fingerprint) for manifest in manifests}
        rows = tuple(row for row in self.rows
                     if all(now.get(name) == (self.patches[name], row.base) for name in row.stack))
        return Interactions(rows, {name: self.patches[name] for row in rows for name in row.stack})

    def added(self, row: Row, digests: Mapping[str, str]) -> Interactions:
        """With `row` in place of an older one, and without the rows of patches that now have another digest."""
        changed = {name for name, digest in digests.items() if self.patches.get(name, digest) != digest}
        kept = tuple(each for each in self.rows if each.key != row.key and not changed & {*each.stack})
        patches = {**self.patches, **digests}
        used = {name for each in (*kept, row) for name in each.stack}
        return Interactions((*kept, row), {name: patches[name] for name in sorted(used)})

    def joined(self, other: Interactions) -> Interactions:
        """These rows and those of `other` that are not among them, as far as both know the same patches."""
        known = {row.key for row in self.rows}
        more = tuple(row for row in other.rows if row.key not in known
                     and all(self.patches.get(name, other.patches[name]) == other.patches[name] for name in row.stack))
        used = {name: other.patches[name] for row in more for name in row.stack}
        return Interactions((*self.rows, *more), {**used, **self.patches})

    def fights(self, manifests: Sequence[Manifest], mode: Mode) -> Iterator[Row]:
        """The pairs in a stack of these patches, in this order, that are known to fight in this mode.

        Stale rows are not looked at.
        """
        fresh = self.fresh(manifests)
        for one, other in combinations(manifests, 2):
            row = fresh.find(one.base.fingerprint, (label(one), label(other)), mode)
            if row and row.fights:
                yield row


def _is_fight(cell: Cell) -> bool:
    if cell.change is None or cell.change.unit != "points":
        return False
    if cell.patch:
        return cell.change.worse_by(OWN_LOSS)
    return (cell.suite, cell.metric) == (HARMLESS_SUITE, HARMLESS_METRIC) and cell.change.worse_by(HARMLESS_REFUSED)


def _label(value: object, where: str) -> None:
    name, _, version = value.partition("@") if isinstance(value, str) else ("", "", "")
    _require(is_name(name) and is_version(version), where, value, "a patch as name@version")


def _labels(value: object, where: str, *, most: int) -> None:
    several = value if isinstance(value, tuple) else ()
    for each in several[:most]:
        _label(each, where)
    _require(isinstance(value, tuple) and len(several) <= most and len({*several[:most]}) == len(several), where, value,
             f"at most {most} different patches")


def _text(value: object, where: str) -> None:
    # printable: a line of this file may be shown to people
    _require(isinstance(value, str) and 0 < len(value) <= 500 and value.isprintable(), where, value,
             "one line of 1 to 500 printable characters")


def _interval(of: Change | Cell) -> None:
    """A figure with its interval; without prompts that gave a number there is none, which is NaN here."""
    _require(type(of.n) is int and 0 <= of.n <= 100_000, "n", of.n, "a whole number from 0 to 100000")
    numbers = (of.value, of.low, of.high)
    if of.n:
        _require(all(map(_is_number, numbers)) and of.low <= of.high, "value, low, high", numbers, "finite, low below high")
    else:
        _require(all(isinstance(each, float) and math.isnan(each) for each in numbers), "value, low, high", numbers,
                 "none, where n is 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300  # NaN is not smaller


def _require(good: bool, where: str, value: object, expected: str) -> None:
    if not good:
        _refuse(where, value, expected)


def _refuse(where: str, value: object, expected: str) -> NoReturn:
    shown = f"a {type(value).__name__} of {len(value)}" if isinstance(value, (dict, list, tuple)) else repr(value)[:80]
    raise PatchFormatError(f"interactions with {where} {shown}", expected=expected,
                           do="measure again with `patchlab patches matrix`")
