"""Save and load are inverses, a failed save loses nothing, and every released format still loads."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_patches import make_patch

from patchlab.errors import InputError, PatchFormatError
from patchlab.patches import Manifest, Patch

FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", "patch.json"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_save_then_load_gives_equal_bytes(patch: Patch, folder: Path) -> None:
    loaded = Patch.from_pretrained(folder)
    assert loaded.prefix.tobytes() == patch.prefix.tobytes()
    assert dataclasses.replace(loaded.manifest, files={}) == patch.manifest
    assert sorted(loaded.manifest.files) == sorted(contents(folder)) == FILES


def test_saving_twice_gives_equal_folders(patch: Patch, folder: Path, tmp_path: Path) -> None:
    again = Patch.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert contents(again) == contents(folder) == contents(patch.save_pretrained(tmp_path / "third"))


def test_a_float_survives_to_the_last_bit(manifest: Manifest, tmp_path: Path) -> None:
    extreme = np.array([1e-45, -0.0, 3.4e38, 1 / 3] * 6, np.float32).reshape(3, 8)
    folder = Patch(manifest, extreme).save_pretrained(tmp_path / "p")
    assert Patch.from_pretrained(folder).prefix.tobytes() == extreme.tobytes()


def test_files_are_readable_by_others_as_the_umask_says(folder: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~umask}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask


def test_a_patch_is_a_value(patch: Patch, manifest: Manifest) -> None:
    assert patch == make_patch(manifest) and hash(patch) == hash(make_patch(manifest))
    assert patch != make_patch(manifest, seed=1)
    with pytest.raises(ValueError, match="read-only"):
        patch.prefix[0, 0] = 1
    source = np.zeros((3, 8), np.float32)
    made = Patch(manifest, source)
    source[0, 0] = 1
    assert made.prefix[0, 0] == 0


def test_digest_is_that_of_the_prefix_and_nothing_else(patch: Patch, manifest: Manifest, folder: Path) -> None:
    elsewhere = make_patch(dataclasses.replace(manifest, base=dataclasses.replace(manifest.base, fingerprint="w2:0123")))
    turned = Patch(dataclasses.replace(manifest, length=8, width=3), patch.prefix.reshape(8, 3))
    assert patch.digest == Patch.from_pretrained(folder).digest == elsewhere.digest and patch != elsewhere
    assert len({patch.digest, make_patch(manifest, seed=1).digest, turned.digest}) == 3


@pytest.mark.parametrize("prefix", [
    np.zeros((1, 3, 8), np.float32), np.zeros((8, 3), np.float32), np.zeros((3, 8)), [[0.0] * 8] * 3,
])
def test_a_prefix_unlike_its_manifest_is_refused(manifest: Manifest, prefix: Any) -> None:
    with pytest.raises(PatchFormatError, match=r"expected \[P, D\] = float32 \[3, 8\]"):
        Patch(manifest, prefix)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prefix_that_is_not_finite_is_refused(manifest: Manifest, bad: float) -> None:
    with pytest.raises(PatchFormatError, match="finite"):
        Patch(manifest, np.full((3, 8), bad, np.float32))


def test_saving_replaces_a_patch_but_nothing_else(patch: Patch, manifest: Manifest, folder: Path) -> None:
    make_patch(manifest, seed=1).save_pretrained(folder)
    assert Patch.from_pretrained(folder) != patch
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not a patch folder"):
        patch.save_pretrained(folder)
    assert (folder / "thesis.txt").read_text() == "mine"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failed_save_leaves_what_was_there(
        patch: Patch, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    def full_disk(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        patch.save_pretrained(folder, card="other")
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("folder", sorted((Path(__file__).parent / "released").iterdir()),
                         ids=lambda f: f.name)
def test_every_released_format_still_loads(folder: Path) -> None:
    loaded = Patch.from_pretrained(folder)
    assert (loaded.manifest.length, loaded.manifest.width) == loaded.prefix.shape
    expected = np.linspace(-1, 1, loaded.prefix.size, dtype=np.float32)
    assert loaded.prefix.tobytes() == expected.tobytes()


def test_the_room_loads_no_model_library() -> None:
    code = "import patchlab.patches, sys; print(*{'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
