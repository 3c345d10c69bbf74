"""Measured interactions of patches: figures of the base, of single patches and of pairs, and the file that stores them.

The file records the digest of every patch; a row is stale, and ignored, once the installed patch has another digest.
Constructors check every field, so values that exist are valid and can be read again once written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import chain, combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, FailFast, Field, PlainSerializer
from pydantic.dataclasses import dataclass

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import Manifest, is_name, is_version
from patchlab.patches.stack import Mode
from patchlab.storage import locked, write_text
from patchlab.validation import STRICT, Unfit, checked, dump, one_line, parse, such

OWN_LOSS = 5.0  # percentage points of its effect that a patch may lose in a pair
HARMLESS_REFUSED = 2.0  # percentage points that a pair may add to the harmless refusals of the worse of its patches alone
HARMLESS_SUITE, HARMLESS_METRIC = "overrefusal", "refusal_rate"
SCHEMA: Literal[1] = 1
MAX_BYTES = 64 * 2**20
LARGEST = 3  # patches in a measured stack
_DO = "measure again with `patchlab patches matrix`"


def _is_label(text: str) -> bool:
    name, _, version = text.partition("@")
    return is_name(name) and is_version(version)


def _differ(names: tuple[str, ...]) -> bool:
    return len(set(names)) == len(names) <= LARGEST


Unit = Literal["points", "nats"]
Label = Annotated[str, such(_is_label, "a patch as name@version")]
# in the order of a stack
Labels = Annotated[tuple[Label, ...], FailFast(), such(_differ, f"at most {LARGEST} different patches")]
Key = tuple[str, str, tuple[str, ...]]
Line = Annotated[str, one_line(500)]
Count = Annotated[int, Field(ge=0, le=100_000)]
# JSON has no NaN: a missing figure is null in the file
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value),
                   PlainSerializer(lambda value: None if math.isnan(value) else value)]
Value = Annotated[float, such(lambda value: abs(value) < 1e300, "a finite number or null")]


def label(manifest: Manifest) -> str:
    """A patch as `name@version`."""
    return f"{manifest.name}@{manifest.version}"


def _check_interval(figure: Change | Cell) -> None:
    """A figure over no prompts is NaN, any other is finite."""
    numbers = (figure.value, figure.low, figure.high)
    finite = all(abs(number) < 1e300 for number in numbers) and figure.low <= figure.high
    if not (all(map(math.isnan, numbers)) if figure.n == 0 else finite):
        raise Unfit("finite numbers, low below high; null where n is 0", field="value, low, high", found=str(numbers))


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Change:
    """The difference between a figure and that of the stack `against` on the same `n` prompts, with its 95 % interval.

    Positive is better. Rates are compared in percentage points, KL divergences in nats.
    """

    against: Annotated[Labels, Field(max_length=1)]
    value: Number
    low: Number
    high: Number
    n: Count
    unit: Unit

    def __post_init__(self) -> None:
        _check_interval(self)

    @property
    def known(self) -> bool:
        """Whether at least one prompt gave a number."""
        return math.isfinite(self.value)

    def worse_by(self, limit: float) -> bool:
        """Whether the value is below -`limit` and the whole interval below 0."""
        return self.value < -limit and self.high < 0


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Cell:
    """One figure of a row: a suite's metric with its 95 % interval over `n` prompts, and the scorer.

    `patch` is the patch whose own effect the figure measures, empty for a figure of the whole stack. `values` holds one
    number per prompt, None where the scorer gave none, for paired comparisons with later rows.
    """

    suite: Line
    metric: Line
    patch: Annotated[str, such(lambda text: not text or _is_label(text), "a patch as name@version, or empty")]
    value: Number
    low: Number
    high: Number
    n: Count
    scorer: Line
    digest: Line
    values: Annotated[tuple[Value | None, ...], Field(max_length=100_000), FailFast()]
    change: Change | None = None

    def __post_init__(self) -> None:
        _check_interval(self)
        if (numbers := sum(value is not None for value in self.values)) != self.n:
            raise Unfit(f"{numbers}, the count of numbers in values", field="n", found=str(self.n))


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class InteractionRow:
    """The figures of one stack of at most 3 patches on the base with this fingerprint.

    Rows with equal `settings` were measured with the same prompts and sampling. Raises PatchFormatError.
    """

    base: Line
    stack: Labels
    mode: Mode
    settings: Annotated[dict[Line, Line], Field(max_length=50)] = field(hash=False)
    cells: Annotated[tuple[Cell, ...], Field(max_length=200), FailFast()] = ()

    def __post_init__(self) -> None:
        places = [(cell.suite, cell.metric, cell.patch) for cell in self.cells]
        if len(places) != len(set(places)) or any(cell.patch and cell.patch not in self.stack for cell in self.cells):
            raise Unfit("each figure once, of a patch of the stack or of the whole stack", field="cells", found=str(places)[:80])

    @property
    def key(self) -> Key:
        """The row's identity among all rows, see `_key`."""
        return _key(self.base, self.stack, self.mode)

    def cell(self, suite: str, metric: str, patch: str = "") -> Cell | None:
        """The figure of this suite, metric and patch, None if it was not measured."""
        return next((c for c in self.cells if (c.suite, c.metric, c.patch) == (suite, metric, patch)), None)

    @property
    def fights(self) -> tuple[Cell, ...]:
        """The figures by which a stack fights: a patch loses more than 5 points of its own effect, or the stack refuses more
        than 2 points more harmless requests than the worst patch alone."""
        return tuple(cell for cell in self.cells if len(self.stack) > 1 and _is_fight(cell))


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Interactions:
    """Measured rows, one per stack, and the digest of every patch in them. Raises PatchFormatError."""

    rows: Annotated[tuple[InteractionRow, ...], Field(max_length=10_000), FailFast()] = ()
    patches: dict[Label, Line] = field(default_factory=dict, hash=False)
    schema: Literal[1] = SCHEMA

    def __post_init__(self) -> None:
        keys = [row.key for row in self.rows]
        if len(keys) != len(set(keys)):
            raise Unfit("one row per stack", field="rows", found=f"{len(keys)} rows of {len(set(keys))} stacks")
        if missing := {name for row in self.rows for name in row.stack} - self.patches.keys():
            raise Unfit("a digest for every patch of a row", field="patches", found=f"without {min(missing)}")

    def find(self, base: str, stack: tuple[str, ...], mode: Mode) -> InteractionRow | None:
        """The row of a stack, None without one; the order of patches matters in sequential mode only."""
        key = _key(base, stack, mode)
        return next((row for row in self.rows if row.key == key), None)

    def fresh(self, manifests: Iterable[Manifest], *, fingerprints: Collection[str] = ()) -> Interactions:
        """The rows without stale patches, on a base with one of these `fingerprints`.

        Without fingerprints, rows of any base are kept, each patch only in rows of the base it was made for.
        """
        current = {(label(manifest), manifest.digest, base) for manifest in manifests
                   for base in fingerprints or (manifest.base.fingerprint,)}
        rows = tuple(row for row in self.rows if (not fingerprints or row.base in fingerprints)
                     and all((name, self.patches[name], row.base) in current for name in row.stack))
        return Interactions(rows, {name: self.patches[name] for row in rows for name in row.stack})

    def added(self, row: InteractionRow, digests: Mapping[str, str]) -> Interactions:
        """A copy with `row` added or replaced, without the rows of patches that have another digest in `digests`."""
        changed = {name for name, digest in digests.items() if self.patches.get(name, digest) != digest}
        kept = tuple(old for old in self.rows if old.key != row.key and not changed & {*old.stack})
        patches = {**self.patches, **digests}
        used = {name for kept_row in (*kept, row) for name in kept_row.stack}
        return Interactions((*kept, row), {name: patches[name] for name in sorted(used)})

    def joined(self, other: Interactions) -> Interactions:
        """These rows and the additional ones of `other`, without those whose patches have another digest here."""
        present = {row.key for row in self.rows}
        more = tuple(row for row in other.rows if row.key not in present
                     and all(self.patches.get(name, other.patches[name]) == other.patches[name] for name in row.stack))
        used = {name: other.patches[name] for row in more for name in row.stack}
        return Interactions((*self.rows, *more), {**used, **self.patches})

    def fights(self, manifests: Sequence[Manifest], mode: Mode, *,
               fingerprints: Collection[str] = ()) -> Iterator[InteractionRow]:
        """The rows of those pairs and triples in a stack of these patches, in this order and mode, that were measured to fight.

        Stale rows are ignored; `fingerprints` as in `fresh`.
        """
        fresh = {row.key: row for row in self.fresh(manifests, fingerprints=fingerprints).rows}
        for some in chain.from_iterable(combinations(manifests, size) for size in range(2, LARGEST + 1)):
            for base in fingerprints or (some[0].base.fingerprint,):
                row = fresh.get(_key(base, tuple(map(label, some)), mode))
                if row and row.fights:
                    yield row
                    break


def save_interactions(interactions: Interactions, path: Path) -> None:
    """Write the file atomically, one row per line."""
    patches = json.dumps(interactions.patches, indent=2).replace("\n", "\n ")
    rows = ",\n  ".join(json.dumps(dump(row), ensure_ascii=False, allow_nan=False) for row in interactions.rows)
    write_text(path, f'{{\n "schema": {SCHEMA},\n "patches": {patches},\n "rows": [\n  {rows}\n ]\n}}\n')


def load_interactions(path: Path) -> Interactions:
    """Read and check a file that `save_interactions` wrote. Raises PatchFormatError for any other content."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise PatchFormatError(f"{path} is not a file of at most {MAX_BYTES} bytes",
                               expected="a file written by `patchlab patches matrix`", do=_DO)
    return parse(Interactions, path.read_bytes(), where=str(path), schema=SCHEMA)


def add_row(path: Path, row: InteractionRow, digests: Mapping[str, str]) -> Interactions:
    """Add a row to the file as `Interactions.added` does, and return the new content.

    The file is locked meanwhile, so that rows added by other processes are kept. Raises as load_interactions.
    """
    with locked(path):
        updated = (load_interactions(path) if path.exists() else Interactions()).added(row, digests)
        save_interactions(updated, path)
    return updated


def _key(base: str, stack: tuple[str, ...], mode: Mode) -> Key:
    """The empty stack is the same in every mode, and the order of patches matters in sequential mode only."""
    return base, mode if stack else "", stack if mode == "sequential" else tuple(sorted(stack))


def _is_fight(cell: Cell) -> bool:
    if cell.change is None or cell.change.unit != "points":
        return False
    if cell.patch:
        return cell.change.worse_by(OWN_LOSS)
    return (cell.suite, cell.metric) == (HARMLESS_SUITE, HARMLESS_METRIC) and cell.change.worse_by(HARMLESS_REFUSED)
