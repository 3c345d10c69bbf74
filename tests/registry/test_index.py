"""Patches are found by name and version, broken ones are reported, and only checked bytes are installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from patchlab.errors import InputError, NotFoundError, PatchFormatError, TamperedError
from patchlab.patches import Patch
from patchlab.registry import Registry, default_registry, install

Place = Callable[..., Path]


def labels(registry: Registry) -> list[str]:
    return [one.manifest.folder_name for one in registry.list()]


def test_patches_are_listed_by_name_and_version(place: Place, tmp_path: Path) -> None:
    for name, version in [("toxicity", "1.10.0"), ("toxicity", "1.9.0"), ("bias", "1.0.0"),
                          ("toxicity", "2.0.0-rc.1")]:
        place(tmp_path, name, version)
    registry = Registry([tmp_path, tmp_path / "absent"])
    assert labels(registry) == ["bias-1.0.0", "toxicity-2.0.0-rc.1", "toxicity-1.9.0", "toxicity-1.10.0"]
    assert registry.broken == []


def test_find_gives_the_newest_release_or_the_version_asked_for(place: Place, tmp_path: Path) -> None:
    for version in ("1.10.0", "1.9.0", "2.0.0-rc.1"):
        place(tmp_path, "toxicity", version)
    registry = Registry([tmp_path])
    assert registry.find("toxicity").manifest.version == "1.10.0"
    assert registry.find("toxicity", "2.0.0-rc.1").manifest.version == "2.0.0-rc.1"
    assert registry.load("toxicity", "1.9.0").manifest.version == "1.9.0"
    place(tmp_path, "bias", "0.1.0-beta")
    assert registry.find("bias").manifest.version == "0.1.0-beta"


def test_what_is_not_there_is_answered_with_near_names(place: Place, tmp_path: Path) -> None:
    folder = place(tmp_path / "inside", "toxicity", "1.0.0")
    registry = Registry([tmp_path / "inside"])
    with pytest.raises(NotFoundError, match=r"unknown patch 'toxicty'.*did you mean 'toxicity'"):
        registry.find("toxicty")
    with pytest.raises(NotFoundError,
                       match=r"unknown version of 'toxicity' '1\.0\.1'.*did you mean '1\.0\.0'"):
        registry.find("toxicity", "1.0.1")
    shutil.copytree(folder, tmp_path / "outside")
    with pytest.raises(NotFoundError):
        registry.load("../outside")


def test_broken_folders_are_reported_and_do_not_hide_the_rest(place: Place, tmp_path: Path) -> None:
    place(tmp_path, "toxicity", "1.0.0")
    changed = place(tmp_path, "refusal", "1.0.0")
    text = (changed / "patch.json").read_text()
    (changed / "patch.json").write_text(text.replace("0.75", "4.00"))
    (tmp_path / "empty").mkdir()
    odd = place(tmp_path, "bias", "1.0.0")
    (odd / "patch.json").unlink()
    (odd / "patch.json").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("not a folder")
    registry = Registry([tmp_path])
    assert labels(registry) == ["toxicity-1.0.0"]
    reasons = dict(registry.broken)
    assert set(reasons) == {tmp_path / "empty", changed, odd} and "not a regular file" in reasons[odd]
    assert "no patch.json" in reasons[tmp_path / "empty"] and "patch.json" in reasons[changed]


def test_of_one_patch_in_two_folders_the_first_counts(place: Place, tmp_path: Path) -> None:
    first = place(tmp_path / "one", "toxicity", "1.0.0", seed=1)
    second = place(tmp_path / "two", "toxicity", "1.0.0", seed=2)
    registry = Registry([tmp_path / "one", tmp_path / "two"])
    assert [one.folder for one in registry.list()] == [first]
    assert [folder for folder, _ in registry.broken] == [second]
    shutil.rmtree(second)
    shutil.copytree(first, second)
    assert labels(registry) == ["toxicity-1.0.0"] and registry.broken == []


def test_load_checks_the_tensor_that_list_does_not_read(place: Place, tmp_path: Path) -> None:
    folder = place(tmp_path, "toxicity", "1.0.0")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    registry = Registry([tmp_path])
    assert labels(registry) == ["toxicity-1.0.0"]
    with pytest.raises(TamperedError, match=r"adapter_model\.safetensors"):
        registry.load("toxicity")


def test_install_copies_what_it_checked(
        place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place(tmp_path / "from", "calm", "1.0.0").rename(tmp_path / "any-name")
    (source / "model.sig").write_bytes(b"signature")
    home = tmp_path / "home"
    done = install(source, home)
    assert done.folder == home / "patches" / "calm-1.0.0"
    assert Patch.from_pretrained(done.folder) == Patch.from_pretrained(source)
    assert (done.folder / "model.sig").read_bytes() == b"signature"
    assert install(source, home) == done
    monkeypatch.setenv("PATCHLAB_HOME", str(home))
    assert done in default_registry().list()


def test_install_refuses_a_changed_patch_and_other_bytes_of_one_version(place: Place, tmp_path: Path) -> None:
    good = place(tmp_path / "good", "toxicity", "1.0.0", seed=1)
    other = place(tmp_path / "other", "toxicity", "1.0.0", seed=2)
    bad = place(tmp_path / "bad", "toxicity", "1.0.0", seed=3)
    (bad / "README.md").write_text("changed")
    home = tmp_path / "home"
    with pytest.raises(TamperedError, match=r"README\.md"):
        install(bad, home)
    assert not home.exists()
    install(good, home)
    with pytest.raises(InputError, match=r"toxicity 1\.0\.0 with other contents"):
        install(other, home)
    assert Patch.from_pretrained(home / "patches" / "toxicity-1.0.0") == Patch.from_pretrained(good)


def test_install_mends_a_broken_copy_but_leaves_strange_folders_alone(place: Place, tmp_path: Path) -> None:
    source, home = place(tmp_path / "from", "toxicity", "1.0.0"), tmp_path / "home"
    target = install(source, home).folder
    (target / "README.md").write_text("changed")
    with pytest.raises(PatchFormatError):
        Patch.from_pretrained(target)
    install(source, home)
    assert Patch.from_pretrained(target) == Patch.from_pretrained(source)
    (target / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not a patch folder"):
        install(source, home)
    assert (target / "mine.txt").exists()
