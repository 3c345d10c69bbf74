"""What patches do to each other: measured rows of one patch and of two, as checked, frozen values, and their file.

A row stands for the bytes it was measured with: the digest of each of its patches is kept, and a row whose patch has
changed since is stale and not used. A value that is wrong cannot exist, so what is written can always be read again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, FailFast, Field, PlainSerializer
from pydantic.dataclasses import dataclass

from patchlab.errors import PatchFormatError
from patchlab.patches.manifest import Manifest, is_name, is_version
from patchlab.patches.stack import Mode
from patchlab.storage import locked, write_text
from patchlab.validation import STRICT, Unfit, checked, dump, one_line, parse, such

OWN_LOSS = 5.0  # points of its own effect that a patch may lose beside another
HARMLESS_REFUSED = 2.0  # points by which two patches may refuse more harmless requests than the worse of them alone
HARMLESS_SUITE, HARMLESS_METRIC = "overrefusal", "refusal_rate"
SCHEMA: Literal[1] = 1
MAX_BYTES = 64 * 2**20
_DO = "measure again with `patchlab patches matrix`"


def _is_label(text: str) -> bool:
    name, _, version = text.partition("@")
    return is_name(name) and is_version(version)


def _differ(names: tuple[str, ...]) -> bool:
    return len(set(names)) == len(names) <= 2


Unit = Literal["points", "nats"]
Label = Annotated[str, such(_is_label, "a patch as name@version")]
Labels = Annotated[tuple[Label, ...], FailFast(), such(_differ, "at most 2 different patches")]  # in the order of a stack
Key = tuple[str, str, tuple[str, ...]]
Line = Annotated[str, one_line(500)]
Count = Annotated[int, Field(ge=0, le=100_000)]
# JSON has no NaN: a figure that there is not is null in the file
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value),
                   PlainSerializer(lambda value: None if math.isnan(value) else value)]
Value = Annotated[float, such(lambda value: abs(value) < 1e300, "a finite number or nothing")]


def label(manifest: Manifest) -> str:
    """A patch as `name@version`."""
    return f"{manifest.name}@{manifest.version}"


def _check_interval(of: Change | Cell) -> None:
    """Without prompts that gave a number there is no figure, which is NaN here."""
    numbers = (of.value, of.low, of.high)
    good = all(map(math.isnan, numbers)) if of.n == 0 else all(abs(each) < 1e300 for each in numbers) and of.low <= of.high
    if not good:
        raise Unfit("finite numbers, low below high; none where n is 0", field="value, low, high", found=str(numbers))


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Change:
    """How far a figure is from that of the stack `against` on the same `n` prompts, with its 95 % interval.

    Positive is better. The unit of a share is points, hundredths; of a distance it is nats.
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
        """Whether there is a number at all."""
        return math.isfinite(self.value)

    def worse_by(self, limit: float) -> bool:
        """Whether it is worse by more than `limit`, and its whole interval is on the worse side of zero."""
        return self.value < -limit and self.high < 0


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Cell:
    """One figure of a row: a suite's metric with its 95 % interval over `n` prompts and who scored it.

    `patch` is whose own effect the figure is, empty for what concerns the whole stack. `values` holds one number a
    prompt, None where there is none; with them a later row is compared on the same prompts.
    """

    suite: Line
    metric: Line
    patch: Annotated[str, such(lambda text: not text or _is_label(text), "a patch as name@version, or nothing")]
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
            raise Unfit(f"{numbers}, as many as values has numbers", field="n", found=str(self.n))


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Row:
    """What one stack was measured to do on the base with this fingerprint: no patch, one, or two.

    `settings` say how it was measured: rows with equal settings were asked the same. Raises PatchFormatError.
    """

    base: Line
    stack: Labels
    mode: Mode
    settings: Annotated[dict[Line, Line], Field(max_length=50)] = field(hash=False)
    cells: Annotated[tuple[Cell, ...], Field(max_length=200), FailFast()] = ()

    def __post_init__(self) -> None:
        places = [(cell.suite, cell.metric, cell.patch) for cell in self.cells]
        if len(places) != len(set(places)) or any(cell.patch and cell.patch not in self.stack for cell in self.cells):
            raise Unfit("each figure once, of one of the stack's patches or of the whole stack", field="cells",
                        found=str(places)[:80])

    @property
    def key(self) -> Key:
        """What may stand once, see `_key`."""
        return _key(self.base, self.stack, self.mode)

    def cell(self, suite: str, metric: str, patch: str = "") -> Cell | None:
        """The figure at this place, if it was measured."""
        return next((c for c in self.cells if (c.suite, c.metric, c.patch) == (suite, metric, patch)), None)

    @property
    def fights(self) -> tuple[Cell, ...]:
        """The figures of a pair that say its patches fight: a lost own effect, or harmless requests refused."""
        return tuple(cell for cell in self.cells if len(self.stack) == 2 and _is_fight(cell))


@checked("interactions", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class Interactions:
    """Measured rows, each once, and the digest of every patch they were measured with. Raises PatchFormatError."""

    rows: Annotated[tuple[Row, ...], Field(max_length=10_000), FailFast()] = ()
    patches: dict[Label, Line] = field(default_factory=dict, hash=False)
    schema: Literal[1] = SCHEMA

    def __post_init__(self) -> None:
        keys = [row.key for row in self.rows]
        if len(keys) != len(set(keys)):
            raise Unfit("each stack once", field="rows", found=f"{len(keys)} rows of {len(set(keys))} stacks")
        if missing := {name for row in self.rows for name in row.stack} - self.patches.keys():
            raise Unfit("a digest of every patch of a row", field="patches", found=f"without {min(missing)}")

    def find(self, base: str, stack: tuple[str, ...], mode: Mode) -> Row | None:
        """The row of a stack; order counts in sequential mode only."""
        key = _key(base, stack, mode)
        return next((row for row in self.rows if row.key == key), None)

    def fresh(self, manifests: Iterable[Manifest], *, fingerprints: Collection[str] = ()) -> Interactions:
        """The rows measured with exactly these patches, and those without any patch, on a base of these `fingerprints`.

        Without fingerprints every base is meant, and a patch only counts in rows of the base it was made for.
        """
        now = {(label(manifest), manifest.digest, base) for manifest in manifests
               for base in fingerprints or (manifest.base.fingerprint,)}
        rows = tuple(row for row in self.rows if (not fingerprints or row.base in fingerprints)
                     and all((name, self.patches[name], row.base) in now for name in row.stack))
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

    def fights(self, manifests: Sequence[Manifest], mode: Mode, *, fingerprints: Collection[str] = ()) -> Iterator[Row]:
        """The pairs in a stack of these patches, in this order, that are known to fight in this mode on this base.

        Stale rows are not looked at; `fingerprints` as in `fresh`.
        """
        fresh = {row.key: row for row in self.fresh(manifests, fingerprints=fingerprints).rows}
        for one, other in combinations(manifests, 2):
            for base in fingerprints or (one.base.fingerprint,):
                row = fresh.get(_key(base, (label(one), label(other)), mode))
                if row and row.fights:
                    yield row
                    break


def save_interactions(interactions: Interactions, path: Path) -> None:
    """Write the file, atomically, a row a line."""
    patches = json.dumps(interactions.patches, indent=2).replace("\n", "\n ")
    rows = ",\n  ".join(json.dumps(dump(row), ensure_ascii=False, allow_nan=False) for row in interactions.rows)
    write_text(path, f'{{\n "schema": {SCHEMA},\n "patches": {patches},\n "rows": [\n  {rows}\n ]\n}}\n')


def load_interactions(path: Path) -> Interactions:
    """The interactions in a file, checked whole. Raises PatchFormatError for anything else."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise PatchFormatError(f"{path} is no file of at most {MAX_BYTES} bytes", expected="what patchlab patches matrix wrote",
                               do=_DO)
    return parse(Interactions, path.read_bytes(), where=str(path), schema=SCHEMA)


def add_row(path: Path, row: Row, digests: Mapping[str, str]) -> Interactions:
    """Add a row to the file as `Interactions.added` does, and return what it then holds.

    The file is read and written under a lock, so that rows which other processes add stay. Raises as load_interactions.
    """
    with locked(path):
        found = (load_interactions(path) if path.exists() else Interactions()).added(row, digests)
        save_interactions(found, path)
    return found


def _key(base: str, stack: tuple[str, ...], mode: Mode) -> Key:
    """Without patches the mode means nothing, and only a sequence has an order."""
    return base, mode if stack else "", stack if mode == "sequential" else tuple(sorted(stack))


def _is_fight(cell: Cell) -> bool:
    if cell.change is None or cell.change.unit != "points":
        return False
    if cell.patch:
        return cell.change.worse_by(OWN_LOSS)
    return (cell.suite, cell.metric) == (HARMLESS_SUITE, HARMLESS_METRIC) and cell.change.worse_by(HARMLESS_REFUSED)
