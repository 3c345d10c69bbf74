"""A registry reads a file once for as long as it is the same one, and sees what was installed, replaced and deleted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from made_patches import make_patch

from patchlab import storage
from patchlab.patches import Manifest, Patch
from patchlab.registry import Registry, default_registry, index, install

Place = Callable[..., Path]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose manifest or patch was read, in order; reading itself is the real one."""
    seen: list[str] = []

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def read(folder: Path) -> object:
            seen.append(folder.name)
            return real(folder)
        return read

    monkeypatch.setattr(index, "read_manifest", counted(index.read_manifest))
    monkeypatch.setattr(index.Patch, "from_pretrained", counted(Patch.from_pretrained))
    return seen


def test_300_patches_are_read_once_and_then_only_looked_at(place: Place, tmp_path: Path, reads: list[str]) -> None:
    first = place(tmp_path, "p0", "1.0.0")
    for number in range(1, 300):
        shutil.copytree(first, tmp_path / f"copy-{number}")  # equal bytes under another folder are the same patch again
    place(tmp_path, "q", "1.0.0")
    registry = Registry([tmp_path])
    assert [one.manifest.name for one in registry.list()] == ["p0", "q"] and len(reads) == 301
    reads.clear()
    for _ in range(3):
        assert len(registry.list()) == 2 and registry.find("q").manifest.name == "q" and registry.broken == []
    assert reads == []


def test_what_changes_is_seen_at_the_next_call(place: Place, tmp_path: Path, reads: list[str]) -> None:
    place(tmp_path, "calm", "1.0.0")
    registry = Registry([tmp_path])
    old = registry.load("calm")
    assert registry.load("calm") is old and reads == ["calm-1.0.0", "calm-1.0.0"]

    place(tmp_path, "calm", "1.1.0")
    assert registry.load("calm").manifest.version == "1.1.0" and registry.load("calm", "1.0.0") is old
    place(tmp_path, "calm", "1.0.0", seed=1)  # replaced
    new = registry.load("calm", "1.0.0")
    assert new.digest != old.digest and registry.load("calm", "1.0.0") is new
    assert registry.find("calm", "1.0.0").manifest.digest == new.manifest.digest
    shutil.rmtree(tmp_path / "calm-1.1.0")
    assert registry.load("calm") is new
    (tmp_path / "calm-1.0.0" / "patch.json").write_text("{}")
    assert registry.list() == [] and [folder.name for folder, _ in registry.broken] == ["calm-1.0.0"]
    reads.clear()
    assert registry.list() == [] and reads == []
    place(tmp_path, "calm", "1.0.0")
    assert registry.load("calm") == old and registry.broken == []


def test_the_version_made_for_a_base_is_preferred(manifest: Manifest, tmp_path: Path) -> None:
    mine, other = "w2:" + "a" * 64, "b" * 64
    for version, fingerprint in [("1.0.0", mine), ("1.2.0-rc.1", mine), ("1.1.0", "a" * 64), ("2.0.0", other)]:
        made = replace(manifest, version=version, base=replace(manifest.base, fingerprint=fingerprint))
        make_patch(made).save_pretrained(tmp_path / made.folder_name)
    registry = Registry([tmp_path])

    def found(*fingerprints: str, version: str | None = None) -> str:
        assert registry.load("toxicity", version, fingerprints=fingerprints).manifest.version == registry.find(
            "toxicity", version, fingerprints=fingerprints).manifest.version
        return registry.find("toxicity", version, fingerprints=fingerprints).manifest.version

    assert registry.find("toxicity").manifest.version == found() == "2.0.0"
    assert found(mine) == "1.0.0"  # a release before a later pre-release
    assert found(mine, "a" * 64) == "1.1.0" and found(other) == "2.0.0"
    assert found(mine, version="1.2.0-rc.1") == "1.2.0-rc.1" and found(mine, version="2.0.0") == "2.0.0"
    assert found("c" * 64) == "2.0.0"  # none fits: the caller says for which base it is


def test_one_version_for_two_bases_is_two_patches(manifest: Manifest, tmp_path: Path) -> None:
    bases = ["a" * 64, "b" * 64]
    for fingerprint in bases:
        make_patch(replace(manifest, base=replace(manifest.base, fingerprint=fingerprint))).save_pretrained(
            tmp_path / fingerprint[0] / "toxicity-1.0.0")
    registry = Registry([tmp_path / "a", tmp_path / "b"])
    assert len(registry.list()) == 2 and registry.broken == []
    for fingerprint in bases:
        for version in (None, "1.0.0"):
            assert registry.find("toxicity", version, fingerprints=[fingerprint]).manifest.base.fingerprint == fingerprint
    assert registry.find("toxicity").folder.parent.name == "a"


def test_threads_list_and_load_while_patches_come_and_go(place: Place, tmp_path: Path) -> None:
    place(tmp_path, "calm", "1.0.0")
    registry = Registry([tmp_path])

    def use(number: int) -> int:
        if number % 8 == 0:
            place(tmp_path, "calm", "1.0.0", seed=number % 3)
            place(tmp_path, f"other-{chr(97 + number % 5)}", "1.0.0")
        assert registry.find("calm").manifest.name == registry.load("calm").manifest.name == "calm"
        return len(registry.list())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(use, range(200))) == 6
    assert registry.broken == []


def test_processes_install_the_same_patch_at_once(place: Place, tmp_path: Path) -> None:
    source, home = place(tmp_path / "from", "calm", "1.0.0"), tmp_path / "home"
    code = "import sys; from patchlab.registry import install; print(install(sys.argv[1], sys.argv[2]).folder)"
    several = [subprocess.Popen([sys.executable, "-c", code, str(source), str(home)], stdout=subprocess.PIPE, text=True,
                                cwd=Path(storage.__file__).parents[1]) for _ in range(4)]
    assert {one.communicate(timeout=60)[0] for one in several} == {f"{home / 'patches' / 'calm-1.0.0'}\n"}
    assert Patch.from_pretrained(home / "patches" / "calm-1.0.0") == Patch.from_pretrained(source)
    assert [one.folder.name for one in Registry([home / "patches"]).list()] == ["calm-1.0.0"]
    assert not Registry([home / "patches"]).broken


def test_the_default_registry_is_one_for_a_home(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "a"))
    first = default_registry()
    assert default_registry() is first
    install(place(tmp_path, "made", "1.0.0"), tmp_path / "b")
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "b"))
    assert "made" in {one.manifest.name for one in default_registry().list()} - {one.manifest.name for one in first.list()}
