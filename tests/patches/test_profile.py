"""A profile pins: what it was saved with is what it gives, and another version, digest or base is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from patchlab.errors import BaseMismatchError, InputError, NotFoundError, PatchFormatError, StackError, TamperedError
from patchlab.patches import Stack
from patchlab.patches.profile import MAX_PROFILE, Profile
from patchlab.registry import Registry
from patchlab.registry.profiles import check_profile, find_profiles

STACK = Stack.parse("toxicity:0.5,bias", mode="blend", gates=True)


@pytest.fixture
def registry(tmp_path: Path, place: Callable[..., Path]) -> Registry:
    for name, version in (("toxicity", "1.0.0"), ("bias", "1.0.0")):
        place(tmp_path / "patches", name, version)
    return Registry([tmp_path / "patches"])


@pytest.fixture
def profile(registry: Registry) -> Profile:
    manifests = [registry.find(name).manifest for name in STACK.names]
    return Profile.of("acme", STACK, manifests, [0.5, 0.75])


def test_save_and_read_are_inverses_and_bytes_are_equal(profile: Profile, registry: Registry, tmp_path: Path) -> None:
    profile.save(tmp_path / "a.json")
    read = Profile.read(tmp_path / "a.json")
    assert read == profile
    read.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert str(read.stack) == "toxicity@1.0.0:0.5,bias@1.0.0:0.75" and (read.stack.mode, read.stack.gates) == ("blend", True)
    check_profile(read, registry)


def test_a_newer_version_changes_nothing(profile: Profile, registry: Registry, tmp_path: Path,
                                         place: Callable[..., Path]) -> None:
    place(tmp_path / "patches", "toxicity", "2.0.0")
    check_profile(profile, registry)
    assert registry.find("toxicity").manifest.version == "2.0.0" and "toxicity@1.0.0" in str(profile.stack)


def test_another_digest_a_missing_version_and_another_base_are_typed_errors(
        profile: Profile, registry: Registry, tmp_path: Path, place: Callable[..., Path]) -> None:
    place(tmp_path / "patches", "toxicity", "1.0.0", seed=1)
    with pytest.raises(TamperedError, match=r"patch toxicity 1\.0\.0 with the digest .* to which the profile acme is pinned"):
        check_profile(profile, registry)
    other = tmp_path / "other"
    place(other, "toxicity", "2.0.0")
    with pytest.raises(NotFoundError, match=r"unknown version of 'toxicity' '1\.0\.0'"):
        check_profile(profile, Registry([other]))
    with pytest.raises(NotFoundError, match="unknown patch"):
        check_profile(profile, Registry([tmp_path / "none"]))
    with pytest.raises(BaseMismatchError, match="the profile acme for the base"):
        profile.check_base(["0123456789abcdef"])
    profile.check_base([profile.base])


def test_patches_of_no_base_or_of_several_make_no_profile(registry: Registry) -> None:
    with pytest.raises(InputError, match="patches of 0 bases"):
        Profile.of("acme", Stack(), [], [])


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"schema": 2}, InputError, "schema 2"), ({"name": "Acme Inc"}, InputError, "'Acme Inc'"), ({"more": 1}, InputError, "more"),
    ({"mode": "sideways"}, InputError, "mode"), ({"gates": "yes"}, InputError, "gates"),
    ({"patches": [{"name": "a"}]}, InputError, "no key"), ({"base": "x" * 300}, InputError, "base")])
def test_a_wrong_field_is_named(profile: Profile, tmp_path: Path, change: dict[str, object], error: type[Exception],
                                words: str) -> None:
    profile.save(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps(json.loads((tmp_path / "a.json").read_text()) | change))
    with pytest.raises(error, match=words):
        Profile.read(tmp_path / "a.json")


@pytest.mark.parametrize(("data", "error"), [
    (b"", PatchFormatError), (b"[]", PatchFormatError), (b"\xff", PatchFormatError), (b"{" * 10_000, PatchFormatError),
    (b" " * (MAX_PROFILE + 1), InputError), (b'{"schema": 1, "schema": 1}', PatchFormatError)])
def test_a_file_that_is_no_profile_is_one_line(tmp_path: Path, data: bytes, error: type[Exception]) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(error) as caught:
        Profile.read(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_a_server_offers_the_profiles_of_a_base(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "home"))
    assert find_profiles([profile.base]) == ({}, [])
    profile.save(tmp_path / "home" / "profiles" / "acme.json")
    (tmp_path / "home" / "profiles" / "wrong.json").write_text("[]")
    found, broken = find_profiles([profile.base])
    assert found == {"acme": profile} and len(broken) == 1 and "wrong.json" in broken[0]
    assert find_profiles(["0123456789abcdef"])[0] == {}


def test_a_patch_that_is_there_twice_is_refused(profile: Profile) -> None:
    twice = Profile(name="acme", base=profile.base, patches=profile.patches[:1] * 2)
    with pytest.raises(StackError, match="twice"):
        _ = twice.stack
