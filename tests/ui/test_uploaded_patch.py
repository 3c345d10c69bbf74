"""What is read of an uploaded patch, and everything an archive may try: each is refused in one line, and nothing is written."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from made_models import make_backbone, make_patch

from patchlab.errors import InputError, PatchFormatError, PatchLabError
from patchlab.patches import Patch
from patchlab.patches.folder import CAPS, KNOWN
from patchlab.registry import install
from patchlab.ui.patches.uploaded_patch import MAX_FILES, MAX_UNPACKED, loose, of_zip, unpacked

Packed = Callable[..., Path]


@pytest.fixture(scope="module")
def patch() -> Patch:
    return make_patch(make_backbone("llama"), "calm", length=3)


@pytest.fixture
def folder(patch: Patch, tmp_path: Path) -> Path:
    return patch.save_pretrained(tmp_path / "calm-1.0.0")


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Packed:
    """Packs the patch with more entries, each a name or a ZipInfo with its bytes."""
    def pack(*more: tuple[str | zipfile.ZipInfo, bytes], inside: str = "calm-1.0.0/", without: tuple[str, ...] = (),
             method: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / "upload.zip"
        with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name twice
            for file in sorted(folder.iterdir()):
                if file.name not in without:
                    archive.write(file, inside + file.name)
            for name, data in more:
                archive.writestr(name, data)
        return path
    return pack


def installed(*uploads: Path, home: Path) -> Patch:
    with unpacked(uploads) as found:
        one = install(found, home)
    assert not found.exists()
    return Patch.from_pretrained(one.folder)


@pytest.mark.parametrize("inside", ["", "calm-1.0.0/", "exports/today/calm/"])
def test_a_zip_of_a_patch_folder_is_installed(packed: Packed, patch: Patch, tmp_path: Path, inside: str) -> None:
    path = packed(("__MACOSX/._patch.json", b"x"), (f"{inside}.DS_Store", b"x"), inside=inside)
    assert installed(path, home=tmp_path / "home").digest == patch.digest


def test_the_tensors_and_the_manifest_are_enough(folder: Path, packed: Packed, patch: Patch, tmp_path: Path) -> None:
    two = [folder / "adapter_model.safetensors", folder / "patch.json"]
    assert installed(*two, home=tmp_path / "home").digest == patch.digest
    assert installed(packed(without=("README.md", "adapter_config.json")), home=tmp_path / "other").digest == patch.digest


def test_a_card_of_the_vendors_own_cannot_be_made_again(patch: Patch, tmp_path: Path) -> None:
    folder = patch.save_pretrained(tmp_path / "own", card="# Our own words\n")
    with pytest.raises(PatchFormatError, match=r"no README\.md"):
        installed(folder / "adapter_model.safetensors", folder / "patch.json", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["../patch.json", "/etc/patch.json", "calm-1.0.0/../../x/patch.json", "C:\\patch.json",
                                  "a\\..\\patch.json", "c:/patch.json"])
def test_a_path_out_of_the_folder_is_refused(packed: Packed, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    path = packed((name, b"{}"))
    with pytest.raises(PatchFormatError, match=r"the path .* in the \.zip; expected paths inside the patch's folder"):
        of_zip(path)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_link_or_a_device_is_refused(packed: Packed, kind: int) -> None:
    info = zipfile.ZipInfo("calm-1.0.0/README.md")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with pytest.raises(PatchFormatError, match="is a link or a device"):
        of_zip(packed((info, b"/etc/passwd"), without=("README.md",)))


def test_a_bomb_is_refused_by_what_it_says(packed: Packed) -> None:
    zeros = bytes(CAPS["README.md"] + 1)
    with pytest.raises(PatchFormatError, match=r"README\.md with 1,048,577 bytes; expected at most 1,048,576"):
        of_zip(packed(("calm-1.0.0/README.md", zeros), without=("README.md",)))
    huge = bytes(MAX_UNPACKED + 1)
    with pytest.raises(PatchFormatError, match=r"the \.zip with .* bytes; expected at most"):
        of_zip(packed(("calm-1.0.0/adapter_model.safetensors", huge), without=("adapter_model.safetensors",)))


def test_a_bomb_that_lies_about_its_size_is_refused(packed: Packed) -> None:
    """The directory says 10 bytes; the packed data are a megabyte of zeros."""
    path = packed(("calm-1.0.0/README.md", bytes(10**6)), without=("README.md",))
    data = path.read_bytes()
    assert data.count(struct.pack("<L", 10**6)) == 2, "its size in the entry and in the directory"
    path.write_bytes(data.replace(struct.pack("<L", 10**6), struct.pack("<L", 10)))
    with pytest.raises(PatchFormatError, match=r"cannot be read|bytes; expected at most"):
        of_zip(path)


def test_many_files_two_folders_and_doubles_are_refused(packed: Packed) -> None:
    with pytest.raises(PatchFormatError, match=r"a \.zip of .* files; expected at most"):
        of_zip(packed(*((f"calm-1.0.0/x{k}", b"") for k in range(MAX_FILES))))
    for name in ("other/patch.json", "calm-1.0.0/patch.json"):
        with pytest.raises(PatchFormatError, match=r"more than one folder, or patch\.json twice"):
            of_zip(packed((name, b"{}")))


@pytest.mark.parametrize("name", ["setup.py", "weights.bin", "adapter_model.bin", "patch.JSON", "x\u202efdp.json"])
def test_other_files_are_refused(packed: Packed, tmp_path: Path, name: str) -> None:
    with pytest.raises(PatchFormatError, match=r"in the \.zip; expected the files of one patch folder") as caught:
        of_zip(packed((f"calm-1.0.0/{name}", b"x")))
    assert "\u202e" not in str(caught.value)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PatchFormatError, match="expected the files of one patch folder"):
        loose([tmp_path / name])


def test_encrypted_and_rare_archives_are_refused(packed: Packed) -> None:
    with pytest.raises(PatchFormatError, match="encrypted, or packed in a rare way"):
        of_zip(packed(method=zipfile.ZIP_LZMA))
    path = packed()
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    with pytest.raises(PatchFormatError, match="encrypted, or packed in a rare way"):
        of_zip(path)


def test_damaged_archives_are_one_line(packed: Packed, tmp_path: Path) -> None:
    whole, path = packed().read_bytes(), tmp_path / "damaged.zip"
    for damaged in (b"", b"PK", whole[:-30], whole[: len(whole) // 2], b"not a zip at all",
                    whole[:40] + b"\xff" * 60 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(PatchFormatError) as caught:
            of_zip(path)
        assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_every_flipped_byte_of_a_small_archive_gives_the_patch_or_one_line(packed: Packed, patch: Patch, tmp_path: Path) -> None:
    whole, path = packed().read_bytes(), tmp_path / "flipped.zip"
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1:])
        try:
            assert installed(path, home=tmp_path / "home").digest == patch.digest
        except PatchLabError as error:
            assert "\n" not in str(error)


def test_a_changed_file_is_named_by_the_librarys_own_check(folder: Path, packed: Packed, tmp_path: Path) -> None:
    data = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PatchFormatError, match=r"adapter_model\.safetensors in .* was changed"):
        installed(packed(), home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_no_upload_or_two_archives_say_what_to_do(packed: Packed, folder: Path) -> None:
    with pytest.raises(InputError, match="no file"), unpacked([]):
        pass
    with pytest.raises(InputError, match="upload one patch at a time"), unpacked([packed(), folder / "patch.json"]):
        pass


def test_a_link_that_was_uploaded_loose_is_read_as_the_file_it_is(folder: Path, tmp_path: Path) -> None:
    """The server stores uploads itself; what is read is bounded by the size of the file behind the name."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(CAPS["patch.json"] + 1)
    (tmp_path / "links").mkdir()
    os.symlink(large, tmp_path / "links" / "patch.json")
    with pytest.raises(PatchFormatError, match=r"patch\.json with"):
        loose([tmp_path / "links" / "patch.json"])
    assert set(loose([*folder.iterdir()])) <= {*KNOWN}


def test_a_name_with_a_nul_byte_is_refused(packed: Packed) -> None:
    buffer = io.BytesIO(packed(("calm-1.0.0/README.mdXexe", b"x"), without=("README.md",)).read_bytes())
    data = buffer.getvalue().replace(b"README.mdXexe", b"README.md\0exe")
    path = packed()
    path.write_bytes(data)
    with pytest.raises(PatchFormatError, match=r"the path .* in the \.zip"):
        of_zip(path)
