"""A gate and a curve are files a patch may have: whole, checked as the prefix is, and listed in the manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_patches import make_patch
from safetensors.numpy import save

from patchlab.errors import PatchFormatError, TamperedError
from patchlab.patches import Curve, Gate, Manifest, Patch, Point
from patchlab.records import Measure
from patchlab.registry import install

GATE, CURVE = "gate.safetensors", "curve.json"
WEIGHT = np.linspace(-1, 1, 8, dtype=np.float32)
FIGURE = Measure("refusal", "patched", "refusal_rate", 0.5, 0.4, 0.6, 100, "refusal")
Forge = Callable[..., None]


@pytest.fixture
def full(manifest: Manifest) -> Patch:
    """A patch with both optional files."""
    curve = Curve((Point(0.0, (FIGURE,)), Point(0.5, ()), Point(1.0, (FIGURE, FIGURE))))
    return dataclasses.replace(make_patch(manifest), gate=Gate(3, WEIGHT, 0.25), curve=curve)


@pytest.fixture
def folder(full: Patch, tmp_path: Path) -> Path:
    return full.save_pretrained(tmp_path / "toxicity-1.0.0")


def tensors(**changed: Any) -> bytes:
    whole = {"weight": WEIGHT, "bias": np.zeros(1, np.float32), "layer": np.zeros(1, np.float32)}
    return save({name: value for name, value in (whole | changed).items() if value is not None})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_saved_comes_back(full: Patch, folder: Path) -> None:
    loaded = Patch.from_pretrained(folder)
    assert loaded.gate == full.gate and loaded.curve == full.curve and loaded.manifest.gated
    assert loaded.gate is not None and loaded.gate.weight.tobytes() == WEIGHT.tobytes() and not loaded.gate.weight.flags.writeable
    assert {GATE, CURVE} <= loaded.manifest.files.keys() and loaded.digest == full.digest
    assert full != dataclasses.replace(full, gate=None) and full != dataclasses.replace(full, curve=None)


def test_a_patch_without_them_is_what_it_was(patch: Patch, full: Patch, folder: Path, tmp_path: Path) -> None:
    plain = patch.save_pretrained(tmp_path / "plain")
    again = dataclasses.replace(Patch.from_pretrained(folder), gate=None, curve=None).save_pretrained(folder)  # replaced whole
    assert contents(plain) == contents(again)
    assert not Patch.from_pretrained(again).manifest.gated and Patch.from_pretrained(again).gate is None


def test_installing_copies_them(folder: Path, tmp_path: Path) -> None:
    found = install(folder, tmp_path / "home").folder
    assert contents(found) == contents(folder)


@pytest.mark.parametrize("name", [GATE, CURVE])
def test_every_byte_counts_and_so_does_being_there(folder: Path, tmp_path: Path, patch: Patch, name: str) -> None:
    whole = (folder / name).read_bytes()
    for position in {*range(0, len(whole), 37), len(whole) - 1}:
        (folder / name).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1:])
        with pytest.raises(TamperedError, match=name):
            Patch.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(TamperedError, match=f"no {name}"):
        Patch.from_pretrained(folder)
    plain = patch.save_pretrained(tmp_path / "plain")
    (plain / name).write_bytes(whole)
    with pytest.raises(TamperedError, match=f"has a {name}"):
        Patch.from_pretrained(plain)


@pytest.mark.parametrize(("data", "reason"), [
    (tensors(weight=None), "the tensors"),
    (tensors(more=WEIGHT), "the tensors"),
    (tensors(weight=WEIGHT[:7]), r"shape \[7\]"),
    (tensors(weight=WEIGHT.reshape(2, 4)), r"shape \[2, 4\]"),
    (tensors(weight=WEIGHT.astype(np.float64)), "dtype 'F64'"),
    (tensors(weight=np.full(8, np.nan, np.float32)), "8 numbers that are NaN"),
    (tensors(bias=np.full(1, np.inf, np.float32)), "1 numbers"),
    (tensors(bias=np.zeros(2, np.float32)), r"shape \[2\]"),
    (tensors(layer=np.full(1, 0.5, np.float32)), "layer 0.5"),
    (tensors(layer=np.full(1, -1, np.float32)), "layer -1"),
    (tensors(layer=np.full(1, 1e9, np.float32)), "layer 1000000000"),
    (tensors() + b"tail", "tensors"),
    (tensors()[:-4], "not fully covered"),
    (tensors().replace(b"[0,4]", b"[4,8]", 1), "invalid offset"),
    (b"\x80\x04K\x01.", "5 bytes"),
])
def test_a_hostile_gate_is_refused_though_its_digest_is_right(folder: Path, forge: Forge, data: bytes, reason: str) -> None:
    forge(folder, {GATE: data})
    with pytest.raises(PatchFormatError, match=reason) as caught:
        Patch.from_pretrained(folder)
    assert not isinstance(caught.value, TamperedError)


def rows(**changed: Any) -> bytes:
    figure = json.loads(json.dumps(dataclasses.asdict(FIGURE))) | changed
    return json.dumps({"points": [{"strength": 0.5, "measures": [figure]}]}).encode()


@pytest.mark.parametrize(("data", "reason"), [
    (b"[]", "not an object but a list"),
    (b"{}", "no key 'points'"),
    (b'{"points": []}', "a list of 0"),
    (b'{"points": {}}', "points is a dict"),
    (b'{"points": [3]}', r"points\[0\] is 3"),
    (b'{"points": [{"strength": 1, "measures": 2}]}', "measures is 2"),
    (b'{"points": [{"strength": NaN, "measures": []}]}', "NaN"),
    (b'{"points": [{"strength": 5, "measures": []}]}', "strength is 5"),
    (b'{"points": [{"strength": [], "measures": []}]}', "strength is a list"),
    (b'{"points": [{"strength": 1, "measures": []}, {"strength": 1, "measures": []}]}', "rising strength"),
    (json.dumps({"points": [{"strength": k / 100, "measures": []} for k in range(65)]}).encode(), "a list of 65"),
    (rows(value="high"), "value"), (rows(low=2), "low 2"), (rows(n=0), "n is 0"), (rows(more=1), "unknown key 'more'"),
    (rows(metric="a\nb"), "metric"),
])
def test_a_hostile_curve_is_refused_though_its_digest_is_right(folder: Path, forge: Forge, data: bytes, reason: str) -> None:
    forge(folder, {CURVE: data})
    with pytest.raises(PatchFormatError, match=reason):
        Patch.from_pretrained(folder)


@pytest.mark.parametrize("name", [GATE, CURVE])
def test_a_huge_or_linked_one_is_refused_unread(folder: Path, tmp_path: Path, name: str) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(PatchFormatError, match=f"{name} has {2**40} bytes"):
        Patch.from_pretrained(folder)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PatchFormatError, match="symbolic link"):
        Patch.from_pretrained(folder)


def test_a_gate_of_another_width_cannot_be_in_a_patch(patch: Patch) -> None:
    with pytest.raises(PatchFormatError, match="a gate of width 7"):
        dataclasses.replace(patch, gate=Gate(0, WEIGHT[:7], 0.0))
