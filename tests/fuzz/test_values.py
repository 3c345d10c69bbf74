"""Recipes, manifests, patch folders, stacks and interactions: what is read is what was written, or an error of our own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fuzzing import changed, inputs, texts, values
from hypothesis import given
from hypothesis import strategies as st

from patchlab.errors import PatchLabError
from patchlab.patches import Manifest, Patch, Stack
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, load_interactions, save_interactions
from patchlab.patches.manifest import BaseIdentity
from patchlab.patches.stack import MODES
from patchlab.records import Measure
from patchlab.training.config import Recipe, read_recipe, recipe_of

IDENTITY = BaseIdentity("tiny", "", "f" * 16, "t" * 16, "")
MANIFEST = Manifest(name="calm", version="1.0.0", title="Calm", summary="Calmer words.", domain="toxicity", length=2, width=3,
                    strength=1.0, licence="MIT", base=IDENTITY, reference="example/safer",
                    evidence=(Measure("toxicity", "patched", "toxic_rate", 0.125, 0.08, 0.19, 200, "toxicity"),))
numbers = st.one_of(st.floats(allow_nan=False), st.integers(-9, 9), st.sampled_from([2**53 + 1, 1e308, 0.1, "0.1", None, True]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


def same(one: Any, other: Any) -> bool:
    """Equal values of equal kinds: 1, 1.0 and True differ, except that JSON's whole numbers may be read as fractions."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


entries = st.tuples(st.one_of(texts, st.sampled_from(["calm", "a-b", "x1", "none", "Calm"])),
                    st.sampled_from(["", "@1.0.0", "@2.0.0-rc.1+b", "@", "@1"]),
                    st.one_of(st.just(""), st.floats(allow_nan=False).map(lambda x: f":{x!r}"),
                              texts.map(lambda text: f":{text}")))


@inputs(0.5)
@given(st.one_of(st.text(max_size=30), st.lists(entries.map("".join), max_size=3).map(",".join)), st.sampled_from(MODES))
def test_a_stack_says_what_was_typed(text: str, mode: Any) -> None:
    try:
        found = Stack.parse(text, mode=mode)
    except PatchLabError:
        return
    assert Stack.parse(str(found), mode=mode) == found
    parts = [part.strip() for part in text.split(",")] if found.entries else []
    for part, entry in zip(parts, found.entries, strict=True):
        left, colon, strength = part.partition(":")
        assert (entry.name, entry.version) == (left.partition("@")[0], left.partition("@")[2] or None)
        assert entry.strength == (float(strength) if colon else None)


dials = st.dictionaries(st.one_of(st.sampled_from([field.name for field in dataclasses.fields(Recipe)]), texts),
                        st.one_of(numbers, texts, st.lists(st.one_of(texts, st.sampled_from(["benign", "harmful"])), max_size=2)),
                        max_size=5)


@inputs(0.5)
@given(dials, st.sampled_from(["toxicity", "bias", "refusal"]))
def test_a_recipe_keeps_every_dial(folder: Path, given_dials: dict[str, Any], domain: str) -> None:
    content = {"domain": domain, **given_dials}
    try:
        found = recipe_of(content)
    except PatchLabError:
        return
    assert all(same(getattr(found, key), value) for key, value in content.items())
    (folder / "r.yaml").write_text(yaml.safe_dump(dataclasses.asdict(found) | {
        key: list(value) for key, value in dataclasses.asdict(found).items() if isinstance(value, tuple)}, allow_unicode=False))
    assert read_recipe(folder / "r.yaml") == found


@inputs(0.4)
@given(changed([Path(__file__).parents[2].joinpath(f"assets/recipes/{name}.yaml").read_bytes()[:600]
                for name in ("bias", "refusal", "toxicity")] + [b"domain: bias\nseed: 3\nholds: [benign, 'x']\n"]))
def test_a_damaged_recipe_is_an_error_or_what_it_says(folder: Path, data: bytes) -> None:
    (folder / "d.yaml").write_bytes(data)
    with contextlib.suppress(PatchLabError):
        found = read_recipe(folder / "d.yaml")
        content = yaml.safe_load(data.decode())
        assert all(same(getattr(found, key), value) for key, value in content.items())


@inputs(0.5)
@given(st.dictionaries(st.one_of(st.sampled_from([*MANIFEST.to_json()]), texts), st.one_of(numbers, values), max_size=2),
       st.dictionaries(st.sampled_from([*MANIFEST.to_json()["base"]]), st.one_of(texts, values), max_size=1))
def test_a_manifest_keeps_every_field(fields: dict[str, Any], base: dict[str, Any]) -> None:
    content = MANIFEST.to_json()
    content = {**content, "base": {**content["base"], **base}, **fields}
    try:
        found = Manifest.from_json(json.dumps(content).encode())
    except PatchLabError:
        return
    assert same({**content, "files": dict(sorted(content["files"].items()))}, found.to_json())
    assert Manifest.from_json(json.dumps(found.to_json()).encode()) == found


@pytest.fixture(scope="module")
def saved(folder: Path) -> tuple[Path, dict[str, bytes]]:
    place = Patch(MANIFEST, np.arange(6, dtype=np.float32).reshape(2, 3)).save_pretrained(folder / "calm")
    return place, {path.name: path.read_bytes() for path in place.iterdir()}


@inputs(0.35)
@given(st.data())
def test_a_changed_patch_folder_is_refused(saved: tuple[Path, dict[str, bytes]], data: st.DataObject) -> None:
    """A manifest that was changed gets its seal anew, as a forger would; everything else is caught by its digest."""
    place, files = saved
    name = data.draw(st.sampled_from(sorted(files)))
    now = data.draw(changed([files[name]]))
    if name == "patch.json" and data.draw(st.booleans()):
        seal = json.loads(files[name])["files"][name].encode()
        blank = now.replace(seal, b"0" * 64)
        now = blank.replace(b'"patch.json": "' + b"0" * 64, b'"patch.json": "' + hashlib.sha256(blank).hexdigest().encode())
    (place / name).write_bytes(now)
    try:
        found = Patch.from_pretrained(place)
        assert now == files[name] or (name == "patch.json" and same(found.manifest.to_json(), json.loads(now)))
    except PatchLabError:
        assert now != files[name]
    finally:
        (place / name).write_bytes(files[name])


cells = st.builds(lambda value, wide, n, unit, change: {
    "suite": "refusal", "metric": "refusal_rate", "patch": "", "value": value, "low": value - wide, "high": value + wide, "n": n,
    "scorer": "refusal", "digest": "d", "values": [0.5] * n,
    "change": {"against": [], "value": change, "low": change, "high": change, "n": 1, "unit": unit}},
    st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(1, 3), st.sampled_from(["points", "nats"]), st.floats(-1e9, 1e9))


@inputs(0.4)
@given(cells, st.dictionaries(st.one_of(st.sampled_from(["value", "n", "values", "suite", "change", "patch"]), texts),
                              st.one_of(numbers, values), max_size=1), texts, st.sampled_from(MODES))
def test_interactions_are_read_as_they_were_written(folder: Path, cell: dict[str, Any], other: dict[str, Any], base: str,
                                                    mode: str) -> None:
    row = {"base": base, "stack": ["calm@1.0.0"], "mode": mode, "settings": {}, "cells": [{**cell, **other}]}
    content = {"schema": 1, "patches": {"calm@1.0.0": "d"}, "rows": [row]}
    (folder / "i.json").write_text(json.dumps(content))
    try:
        found = load_interactions(folder / "i.json")
    except PatchLabError:
        return
    [made] = found.rows
    assert made.base == base and all(same({**cell, **other}[key], getattr(made.cells[0], key)) for key in ("value", "n", "suite"))
    save_interactions(found, folder / "s.json")
    assert load_interactions(folder / "s.json") == found and found.rows[0].cells[0].values == tuple({**cell, **other}["values"])


INTERACTIONS = Interactions((InteractionRow("tiny", ("calm@1.0.0",), "parallel", {"n": "3"}, (
    Cell("refusal", "refusal_rate", "", 0.5, 0.1, 0.9, 2, "refusal", "d", (0.0, 1.0, None),
         Change((), 1.0, 0.5, 1.5, 2, "points")),)),), {"calm@1.0.0": "d"})


@inputs(0.2)
@given(st.data())
def test_damaged_interactions_are_an_error_or_what_they_say(folder: Path, data: st.DataObject) -> None:
    save_interactions(INTERACTIONS, folder / "whole.json")
    now = data.draw(changed([(folder / "whole.json").read_bytes()]))
    (folder / "d.json").write_bytes(now)
    with contextlib.suppress(PatchLabError):
        [row] = load_interactions(folder / "d.json").rows or [None]
        cell = json.loads(now)["rows"][0]["cells"][0] if row and row.cells else None
        if row and cell:
            assert row.cells[0].value == cell["value"] or math.isnan(row.cells[0].value)
