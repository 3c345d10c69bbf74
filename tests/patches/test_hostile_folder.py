"""Nothing that was changed on the way gets through: bytes, files, links, sizes, and contents whose digests are right."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_patches import make_patch, write_sealed

from patchlab.errors import PatchFormatError, TamperedError
from patchlab.patches import Manifest, Patch, read_manifest

FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", "patch.json"]
WEIGHTS = "adapter_model.safetensors"
Forge = Callable[..., None]


def weights(shape: list[int], data: bytes, **entry: Any) -> bytes:
    """A safetensors file made by hand, so that it can be wrong."""
    described = {"dtype": "F32", "shape": shape, "data_offsets": [0, len(data)]} | entry
    return framed(json.dumps({"prompt_embeddings": described}).encode(), data)


def framed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


ONES = np.ones((3, 8), np.float32).tobytes()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_caught_wherever_it_is(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for position in {*range(0, len(whole), 37), len(whole) - 1}:
        for bit in (1, 128):
            (folder / name).write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1:])
            with pytest.raises(PatchFormatError, match=name) as caught:
                Patch.from_pretrained(folder)
            seal = whole.find(b'"patch.json"') if name == "patch.json" else len(whole)
            assert isinstance(caught.value, TamperedError) or position >= seal


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_longer_file_is_caught(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for changed in (whole[:-1], whole[:len(whole) // 2], b"", whole + b"\n"):
        (folder / name).write_bytes(changed)
        with pytest.raises(PatchFormatError, match=name):
            Patch.from_pretrained(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(PatchFormatError, match=f"no {name}"):
        Patch.from_pretrained(folder)


class _Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_and_never_opened(folder: Path, tmp_path: Path) -> None:
    bomb = pickle.dumps(_Bomb(tmp_path / "exploded"))
    (folder / "adapter_model.bin").write_bytes(bomb)
    with pytest.raises(PatchFormatError, match=r"extra 'adapter_model\.bin'"):
        Patch.from_pretrained(folder)
    (folder / "adapter_model.bin").unlink()
    (folder / WEIGHTS).write_bytes(bomb)
    with pytest.raises(TamperedError, match=WEIGHTS):
        Patch.from_pretrained(folder)
    assert not (tmp_path / "exploded").exists()


def test_an_extra_folder_is_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    with pytest.raises(PatchFormatError, match="extra 'more'"):
        Patch.from_pretrained(folder)


def test_a_signature_is_allowed_and_kept_small(folder: Path) -> None:
    (folder / "model.sig").write_bytes(b"signature")
    Patch.from_pretrained(folder)
    (folder / "model.sig").write_bytes(bytes(2**20 + 1))
    with pytest.raises(PatchFormatError, match=r"model\.sig has 1048577 bytes"):
        Patch.from_pretrained(folder)


@pytest.mark.parametrize("name", FILES)
def test_links_and_pipes_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    moved = (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(moved)
    with pytest.raises(PatchFormatError, match="symbolic link"):
        Patch.from_pretrained(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(PatchFormatError, match="not a regular file"):
        Patch.from_pretrained(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_huge_file_is_refused_unread(folder: Path, name: str) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(2**40)  # sparse: reading it would exhaust the memory
    with pytest.raises(PatchFormatError, match=f"{name} has {2**40} bytes"):
        Patch.from_pretrained(folder)


def test_no_folder_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(PatchFormatError, match="no folder"):
        Patch.from_pretrained(tmp_path / "absent")
    with pytest.raises(PatchFormatError, match=r"no patch\.json"):
        read_manifest(tmp_path / "absent")


@pytest.mark.parametrize(("data", "reason"), [
    (weights([3, 4], ONES, dtype="F64"), "dtype 'F64'"),
    (weights([3, 8], ONES, dtype="F64"), "invalid shape, data type"),
    (weights([3, 8], ONES, dtype=["F32"]), "expected string"),
    (weights([1, 3, 8], ONES), r"shape \[1, 3, 8\]"),
    (weights([8, 3], ONES), r"shape \[8, 3\]"),
    (weights([3.0, 8], ONES), "floating point"),
    (weights([3, 8], ONES[:-4]), "invalid shape"),
    (weights([3, 8], ONES, data_offsets=[4, 100]), "invalid offset"),
    (weights([3, 8], ONES, data_offsets=[0, 10**30]), "floating point"),
    (weights([3, 8], ONES + b"tail", data_offsets=[0, 96]), "not fully covered"),
    (weights([3, 8], ONES, extra=1), "tensor entry"),
    (weights([3, 8], np.full((3, 8), np.nan, np.float32).tobytes()), "24 numbers that are NaN"),
    (weights([3, 8], np.full((3, 8), np.inf, np.float16).tobytes(), dtype="F16"), "24 numbers"),
    (weights([3, 8], b"\x80\x7f" * 24, dtype="BF16"), "24 numbers"),
    (framed(b'{"prompt_embeddings": {}, "prompt_embeddings": {}}', ONES), "'prompt_embeddings' twice"),
    (framed(b'{"prompt_embeddings": {}, "second": {}}', ONES), "missing field"),
    (weights([3, 8], ONES).replace(b"prompt_embeddings", b"prompt-embeddings"), "the tensors"),
    (framed(b'{"__metadata__": [], "prompt_embeddings": {}}', ONES), "expected a map"),
    (framed(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b""), "nested"),
    (struct.pack("<Q", 2**63) + ONES, "a header of"),
    (struct.pack("<Q", 65537) + b" " * 65537, "a header of 65537 bytes"),
    (b"short", "5 bytes"),
])
def test_wrong_weights_are_refused_though_their_digest_is_right(
        folder: Path, forge: Forge, data: bytes, reason: str) -> None:
    forge(folder, {WEIGHTS: data})
    with pytest.raises(PatchFormatError, match=reason):
        Patch.from_pretrained(folder)


@pytest.mark.parametrize(("dtype", "data"), [
    ("F32", np.full((3, 8), 1.5, np.float32).tobytes()),
    ("F16", np.full((3, 8), 1.5, np.float16).tobytes()),
    ("BF16", struct.pack("<H", 0x3FC0) * 24),
])
def test_half_precision_is_widened(folder: Path, forge: Forge, dtype: str, data: bytes) -> None:
    forge(folder, {WEIGHTS: weights([3, 8], data, dtype=dtype)})
    prefix = Patch.from_pretrained(folder).prefix
    assert prefix.dtype == np.float32 and prefix.shape == (3, 8) and (prefix == 1.5).all()


@pytest.mark.parametrize("change", [
    {"num_virtual_tokens": 4}, {"token_dim": 9}, {"peft_type": "LORA"},
    {"base_model_name_or_path": "evil/base"},
    {"auto_mapping": {"parent_library": "os"}},
])
def test_an_adapter_config_unlike_the_manifest_is_refused(
        folder: Path, forge: Forge, change: dict[str, Any]) -> None:
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    forge(folder, {"adapter_config.json": json.dumps(config).encode()})
    with pytest.raises(PatchFormatError, match="describes another adapter"):
        Patch.from_pretrained(folder)


@pytest.mark.parametrize(("edit", "reason"), [
    (lambda m: m.update(name="../../escape"), "name"),
    (lambda m: m["files"].update({"../../x": "1" * 64}), "files"),
    (lambda m: m["files"].pop("README.md"), "lists digests of"),
    (lambda m: m.update(length=5000), "length"),
    (lambda m: m.update(length=4), "describes another adapter"),
    (lambda m: m.update(schema=9), "schema 9"),
    (lambda m: m["files"].pop("patch.json"), "lists digests of"),
])
def test_a_hostile_manifest_is_refused_though_its_digest_is_right(
        folder: Path, forge: Forge, edit: Callable[[dict[str, Any]], object], reason: str) -> None:
    forge(folder, edit=edit)
    with pytest.raises(PatchFormatError, match=reason):
        Patch.from_pretrained(folder)


def test_a_huge_or_deep_manifest_is_refused(folder: Path) -> None:
    write_sealed(folder, '{"a":' * 50_000 + f'{{"patch.json": "{"0" * 64}"}}' + "}" * 50_000)
    with pytest.raises(PatchFormatError, match="nested too deeply"):
        Patch.from_pretrained(folder)
    (folder / "patch.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(PatchFormatError, match="at most 1048576"):
        read_manifest(folder)


def test_text_in_a_manifest_cannot_pass_for_its_seal(manifest: Manifest, tmp_path: Path) -> None:
    sly = dataclasses.replace(manifest, summary=f'"patch.json": "{"0" * 64}"')
    folder = make_patch(sly).save_pretrained(tmp_path / "sly")
    assert Patch.from_pretrained(folder).manifest.summary == sly.summary
