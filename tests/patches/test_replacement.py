"""A patch folder is replaced while others read it: they get one version or the other, whole; what fails leaves the old one."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from made_patches import make_patch

from patchlab import storage
from patchlab.errors import InputError, PatchFormatError
from patchlab.patches import Manifest, Patch, read_manifest

WRITER = """
import sys
from pathlib import Path
from patchlab import storage
from patchlab.patches import Patch
if sys.argv[4] == "moved aside":
    storage._exchanged = lambda one, other: False
versions = [Patch.from_pretrained(Path(name)) for name in sys.argv[2:4]]
for round in range(80):
    versions[round % 2].save_pretrained(sys.argv[1])
"""
READER = """
import sys
from pathlib import Path
from patchlab.patches import Patch, read_manifest
known = {Patch.from_pretrained(Path(name)).digest for name in sys.argv[2:4]}
seen, reads = set(), 0
print("ready", flush=True)
while not Path(sys.argv[1] + "/../stop").exists():
    found = Patch.from_pretrained(Path(sys.argv[1]))
    assert found.digest in known and read_manifest(sys.argv[1]).files["adapter_model.safetensors"]
    seen.add(found.digest)
    reads += 1
print(len(seen), reads)
"""


def started(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=Path(storage.__file__).parents[1])


@pytest.mark.parametrize("how", ["exchanged", "moved aside"])
def test_readers_see_one_whole_version_while_a_writer_replaces(manifest: Manifest, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "home" / "toxicity-1.0.0"
    names = [str(make_patch(manifest, seed=seed).save_pretrained(tmp_path / f"version{seed}")) for seed in (1, 2)]
    make_patch(manifest, seed=1).save_pretrained(folder)
    readers = [started(READER, str(folder), *names) for _ in range(2)]
    for reader in readers:
        assert reader.stdout and reader.stdout.readline() == "ready\n"
    writer = started(WRITER, str(folder), *names, how)
    said = writer.communicate(timeout=120)[1]
    (folder.parent / "stop").touch()
    found = [reader.communicate(timeout=60) for reader in readers]
    assert (writer.returncode, said) == (0, "")
    for out, errors in found:
        assert errors == ""
        seen, reads = map(int, out.split())
        assert seen == 2 and reads > 20
    assert sorted(path.name for path in folder.parent.iterdir()) == ["stop", folder.name]


def test_a_folder_that_comes_back_while_it_is_looked_for_is_read(
        manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer puts the new version in place and clears up between a reader's two looks."""
    folder = tmp_path / "toxicity-1.0.0"

    def aside(looked: Path) -> bool:
        monkeypatch.undo()
        make_patch(manifest, seed=1).save_pretrained(looked)
        return False

    monkeypatch.setattr(storage, "_aside", aside)
    assert Patch.from_pretrained(folder).digest == make_patch(manifest, seed=1).digest


def test_several_writers_of_one_new_folder_all_succeed(manifest: Manifest, tmp_path: Path) -> None:
    made = [make_patch(manifest, seed=seed) for seed in range(4)]
    for round in range(20):
        folder, start = tmp_path / f"round{round}", Barrier(len(made))

        def write(patch: Patch, folder: Path = folder, start: Barrier = start) -> Path:
            start.wait()
            return patch.save_pretrained(folder)

        with ThreadPoolExecutor(len(made)) as pool:
            assert set(pool.map(write, made)) == {folder}
        assert Patch.from_pretrained(folder).digest in {patch.digest for patch in made}
    assert len([*tmp_path.iterdir()]) == 20


def test_names_are_exchanged_in_one_step_where_the_system_can(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not storage._exchanged(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system cannot exchange names")
    assert (tmp_path / "one" / "other").exists() and (tmp_path / "other" / "one").exists()
    assert not storage._exchanged(tmp_path / "one", tmp_path / "absent")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_patch_in_its_place(
        patch: Patch, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    folder = patch.save_pretrained(tmp_path / "toxicity-1.0.0")
    monkeypatch.setattr(storage, "_exchanged", lambda one, other: False)
    rename, calls = Path.rename, []

    def broken(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise OSError("no more renames")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="no more renames"):
        make_patch(manifest, seed=1).save_pretrained(folder)
    assert Patch.from_pretrained(folder) == Patch.from_pretrained(folder) and len(calls) == (1 if failing == 1 else 3)
    assert Patch.from_pretrained(folder).digest == patch.digest
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_an_old_patch_that_cannot_be_moved_back_is_kept_and_named(
        patch: Patch, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = patch.save_pretrained(tmp_path / "toxicity-1.0.0")
    monkeypatch.setattr(storage, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(storage, "_TRIES", 3)
    rename = Path.rename

    def only_aside(self: Path, target: Path) -> Path:
        if target == folder:
            raise OSError("no more renames")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_aside)
    with pytest.raises(InputError, match=r"neither be replaced nor restored.*rename") as caught:
        make_patch(manifest, seed=1).save_pretrained(folder)
    kept = Path(caught.value.do.split()[1])
    assert Patch.from_pretrained(kept).digest == patch.digest
    with pytest.raises(PatchFormatError, match="no folder"):  # not for ever: who reads waits a moment only
        Patch.from_pretrained(folder)


def test_what_is_wrong_with_a_folder_at_rest_is_said_at_once(patch: Patch, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    folder = patch.save_pretrained(tmp_path / "p")
    os.remove(folder / "README.md")
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(PatchFormatError, match=r"no README\.md"):
        Patch.from_pretrained(folder)
    with pytest.raises(PatchFormatError, match=r"no patch\.json"):
        read_manifest(tmp_path / "absent")
