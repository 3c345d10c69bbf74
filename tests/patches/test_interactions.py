"""Measured rows: written and read again, read with suspicion, known to be stale, looked up for a stack."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_rows import cell, change, known, pair, saved

import patchlab
from patchlab.errors import PatchFormatError
from patchlab.patches import Manifest
from patchlab.patches.compatibility import warnings
from patchlab.patches.interactions import Cell, InteractionRow, Interactions, add_row, label, load_interactions, save_interactions
from patchlab.validation import dump

FILE = "interactions.json"
LOST = change(-9.0, -14.0, -4.0)


@pytest.fixture
def two(manifest: Manifest) -> tuple[Manifest, Manifest]:
    return saved(manifest, "refusal"), saved(manifest, "toxicity")


@pytest.fixture
def full(two: tuple[Manifest, Manifest]) -> Interactions:
    """The base, one patch alone with a figure that there is not, and a pair that fights."""
    base = two[0].base.fingerprint
    nothing = Cell("bias", "stereotype_rate", "", math.nan, math.nan, math.nan, 0, "first pronoun", "b" * 64, (None, None))
    return known([InteractionRow(base, (), "parallel", {"n": "4"}, (cell(),)),
                  InteractionRow(base, ("refusal@1.0.0",), "parallel", {"n": "4"}, (cell(patch="refusal@1.0.0"), nothing)),
                  pair(*two, cell(patch="refusal@1.0.0", than=LOST))], *two)


def as_text(interactions: Interactions) -> list[Any]:
    return [[row.key, [dump(each) for each in row.cells]] for row in interactions.rows]


def test_what_is_saved_is_read_again(full: Interactions, tmp_path: Path) -> None:
    path = tmp_path / "deep" / FILE
    save_interactions(full, path)
    first = path.read_bytes()
    found = load_interactions(path)
    assert as_text(found) == as_text(full) and found.patches == full.patches
    assert [row.settings for row in found.rows] == [row.settings for row in full.rows]
    save_interactions(found, path)
    assert path.read_bytes() == first
    save_interactions(Interactions(), path)
    assert load_interactions(path) == Interactions()


def edited(full: Interactions, path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    save_interactions(full, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def put(*place: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: Any) -> None:
        for step in place[:-1]:
            content = content[step]
        content[place[-1]] = value
    return edit


CELL = ("rows", 2, "cells", 0)
HOSTILE = [
    put("schema", value=2), put("schema", value=True), put("more", value=1), put("rows", value={}), put("rows", value=[[]]),
    put("patches", value=[]), put("patches", value={}), put("patches", "refusal@1.0.0", value=7),
    put("patches", "../up", value="1" * 64), put("rows", 2, "base", value=""), put("rows", 2, "base", value="a\nb"),
    put("rows", 2, "mode", value="sideways"), put("rows", 2, "mode", value=["parallel"]),
    put("rows", 2, "stack", value=["refusal@1.0.0"] * 2), put("rows", 2, "stack", value=["refusal", "toxicity"]),
    put("rows", 2, "stack", value=[{}]), put("rows", 2, "stack", value="refusal@1.0.0"),
    put("rows", 2, "stack", value=["bias@1.0.0", "refusal@1.0.0"]),  # no digest
    put("rows", 2, "stack", value=[]),  # the base twice
    put("rows", 2, "stack", value=["refusal@1.0.0", "toxicity@1.0.0", "bias@1.0.0"]),
    put("rows", 2, "stack", value=["refusal@1.0.0", "toxicity@1.0.0", "a@1.0.0", "b@1.0.0"]),
    put("rows", 2, "settings", value={"n": 4}), put("rows", 2, "settings", value=[]),
    put("rows", 2, "cells", value=[{}]), put("rows", 2, "cells", value="cells"),
    put(*CELL, "value", value=None), put(*CELL, "value", value="0.5"), put(*CELL, "value", value=True),
    put(*CELL, "value", value=1e301), put(*CELL, "low", value=0.9), put(*CELL, "n", value=5), put(*CELL, "n", value=4.0),
    put(*CELL, "n", value=-1), put(*CELL, "values", value=[1, 2, "3", 4]), put(*CELL, "values", value=None),
    put(*CELL, "patch", value=0), put(*CELL, "patch", value="bias@1.0.0"), put(*CELL, "scorer", value="\u202e"),
    put(*CELL, "digest", value=""), put(*CELL, "suite", value=["x"]), put(*CELL, "change", value=[]),
    put(*CELL, "change", "against", value="refusal@1.0.0"), put(*CELL, "change", "against", value=["refusal"]),
    put(*CELL, "change", "unit", value="miles"), put(*CELL, "change", "n", value=0), put(*CELL, "change", "high", value=-20),
    put("rows", 1, "cells", 1, "value", value=0.5),  # a number from no prompt
]


@pytest.mark.parametrize("edit", HOSTILE)
def test_anything_else_is_refused(full: Interactions, tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    edited(full, tmp_path / FILE, edit)
    with pytest.raises(PatchFormatError, match=FILE):
        load_interactions(tmp_path / FILE)


@pytest.mark.parametrize("data", [
    b"", b"[]", b"\xff", b"{" * 5000, b'{"schema": 1, "schema": 1, "patches": {}, "rows": []}',
    b'{"schema": 1, "patches": {}, "rows": [NaN]}', b'{"schema": 1, "patches": {}}'])
def test_what_is_not_plain_json_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(PatchFormatError, match=FILE):
        load_interactions(tmp_path / FILE)


def test_a_folder_and_a_flood_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PatchFormatError, match="is not a file"):
        load_interactions(tmp_path)
    monkeypatch.setattr("patchlab.patches.interactions.MAX_BYTES", 10)
    save_interactions(Interactions(), tmp_path / FILE)
    with pytest.raises(PatchFormatError, match="at most 10 bytes"):
        load_interactions(tmp_path / FILE)


def test_a_row_is_stale_when_a_patch_has_changed(full: Interactions, two: tuple[Manifest, Manifest],
                                                 manifest: Manifest) -> None:
    assert [len(row.stack) for row in full.fresh(two).rows] == [0, 1, 2]
    changed = saved(manifest, "toxicity", digest="8" * 64)
    assert [len(row.stack) for row in full.fresh((two[0], changed)).rows] == [0, 1]
    assert list(full.fights(two, "parallel")) == [full.rows[2]]
    assert not list(full.fights((two[0], changed), "parallel"))
    assert not list(full.fights((two[0], saved(manifest, "toxicity", version="1.0.1", digest="2" * 64)), "parallel"))
    assert not full.fresh(()).patches


def test_a_new_row_takes_the_place_of_an_older_and_stale_ones_go(full: Interactions, two: tuple[Manifest, Manifest]) -> None:
    newer = pair(*reversed(two), cell())
    found = full.added(newer, full.patches)
    assert len(found.rows) == 3 and found.rows[-1] is newer and newer.key == full.rows[2].key
    found = full.added(InteractionRow("f" * 16, ("refusal@1.0.0",), "parallel", {}), {"refusal@1.0.0": "8" * 64})
    assert [row.stack for row in found.rows] == [(), ("refusal@1.0.0",)]
    assert found.patches == {"refusal@1.0.0": "8" * 64}


def test_order_counts_in_a_sequence_only(two: tuple[Manifest, Manifest]) -> None:
    lost = cell(patch="refusal@1.0.0", than=LOST)
    one, other = two
    for mode in ("parallel", "blend"):
        found = known([pair(one, other, lost, mode=mode)], *two)  # type: ignore[arg-type]
        for stack in (two, (other, one)):
            assert len(list(found.fights(stack, mode))) == 1  # type: ignore[arg-type]
        assert not list(found.fights(two, "sequential"))
    found = known([pair(one, other, lost, mode="sequential"), pair(other, one, cell(), mode="sequential")], *two)
    assert len(list(found.fights((one, other), "sequential"))) == 1
    assert not list(found.fights((other, one), "sequential")) and not list(found.fights(two, "parallel"))


def test_every_pair_of_a_larger_stack_is_looked_at(two: tuple[Manifest, Manifest], manifest: Manifest) -> None:
    bias = saved(manifest, "bias")
    found = known([pair(*two, cell(patch="refusal@1.0.0", than=LOST)), pair(bias, two[1], cell())], *two, bias)
    assert [row.stack for row in found.fights((two[0], bias, two[1]), "parallel")] == [("refusal@1.0.0", "toxicity@1.0.0")]
    assert not list(found.fights((bias, two[1]), "parallel"))


def test_a_triple_is_looked_at_as_a_whole(two: tuple[Manifest, Manifest], manifest: Manifest) -> None:
    bias = saved(manifest, "bias")
    three = (*two, bias)
    names = tuple(map(label, three))
    row = InteractionRow(two[0].base.fingerprint, names, "parallel", {}, (cell(patch="bias@1.0.0", than=LOST),))
    found = known([row, pair(*two, cell())], *three)
    assert [row.stack for row in found.fights((bias, *two), "parallel")] == [names] and not list(found.fights(two, "parallel"))
    [told] = warnings(three, "parallel", found)
    assert told.startswith("'refusal', 'toxicity' and 'bias' are known to fight side by side: 'bias' loses")


@pytest.mark.parametrize(("one", "fights"), [
    (cell(patch="refusal@1.0.0", than=change(-5.1, -9.0, -0.1)), True),
    (cell(patch="refusal@1.0.0", than=change(-5.0, -9.0, -0.1)), False),  # not past the limit
    (cell(patch="refusal@1.0.0", than=change(-9.0, -19.0, 0.0)), False),  # chance explains it
    (cell(patch="refusal@1.0.0", than=change(9.0, 5.0, 19.0)), False),
    (cell("overrefusal", than=change(-2.1, -4.0, -0.1)), True),
    (cell("overrefusal", than=change(-2.0, -4.0, -0.1)), False),
    (cell("overrefusal", than=change(-2.1, -4.0, 0.1)), False),
    (cell("overrefusal", "refusal_rate_benign", than=change(-9.0, -14.0, -4.0)), False),  # the whole suite counts
    (cell("drift", "kl_to_base", than=change(-9.0, -14.0, -4.0, unit="nats")), False),
    (cell(patch="refusal@1.0.0"), False)])
def test_a_pair_fights_past_the_limits_and_past_chance(two: tuple[Manifest, Manifest], one: Cell, fights: bool) -> None:
    assert bool(pair(*two, one).fights) == fights
    alone = InteractionRow("f" * 16, ("refusal@1.0.0",), "parallel", {}, (one,))
    assert not alone.fights


ADDER = """
import sys
from pathlib import Path
from patchlab.patches.interactions import InteractionRow, add_row
for number in range(15):
    add_row(Path(sys.argv[1]), InteractionRow(f"{sys.argv[2]}-{number}", (), "parallel", {}), {})
"""


def test_rows_that_several_processes_add_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / FILE
    several = [subprocess.Popen([sys.executable, "-c", ADDER, str(path), name], stderr=subprocess.PIPE, text=True,
                                cwd=Path(patchlab.__file__).parents[1]) for name in ("one", "two", "three")]
    assert [one.communicate(timeout=120)[1] for one in several] == [""] * 3
    assert {row.base for row in load_interactions(path).rows} == {f"{name}-{n}" for name in ("one", "two", "three")
                                                                   for n in range(15)}


def test_adding_to_a_broken_file_leaves_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("mine")
    with pytest.raises(PatchFormatError, match=FILE):
        add_row(tmp_path / FILE, InteractionRow("b", (), "parallel", {}), {})
    assert (tmp_path / FILE).read_text() == "mine"


def test_a_label_is_name_and_version(manifest: Manifest) -> None:
    assert label(manifest) == "toxicity@1.0.0"
