"""A manifest is right or it is not there."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import pytest

from patchlab.errors import PatchFormatError
from patchlab.patches import Manifest
from patchlab.patches.manifest import is_version, version_key
from patchlab.records import Measure
from patchlab.validation import parse_object


def read(content: dict[str, Any]) -> Manifest:
    return Manifest.from_json(json.dumps(content).encode())


def test_to_json_and_back_is_the_same_manifest(manifest: Manifest) -> None:
    assert read(manifest.to_json()) == manifest


def test_every_field_is_written(manifest: Manifest) -> None:
    assert set(manifest.to_json()) == {field.name for field in dataclasses.fields(Manifest)}


@pytest.mark.parametrize(("field", "value"), [
    ("name", "../../etc"), ("name", "Toxicity"), ("name", "none"), ("name", "a" * 65), ("name", ""),
    ("name", "a-"), ("name", "toxicity\n"), ("name", 3),
    ("version", "1.0"), ("version", "01.0.0"), ("version", "v1.0.0"), ("version", "1.0.0\n"), ("version", 1),
    ("title", ""), ("title", "two\nlines"), ("title", "t" * 121), ("title", "turned \u202e round"),
    ("summary", None), ("domain", "two words"), ("reference", ""),
    ("licence", " MIT"),
    ("length", 0), ("length", 4097), ("length", 3.0), ("length", True), ("length", "3"), ("width", -8),
    ("width", 65537), ("strength", 0), ("strength", 4.5), ("strength", "1"), ("strength", True), ("strength", 10**400),
    ("placement", "suffix"), ("schema", 2),
    ("schema", True), ("recipe_digest", "not a digest"), ("supersedes", "toxicity"), ("supersedes", ["a@x"]),
    ("conflicts", [1]), ("evidence", {}), ("base", []), ("base", None), ("files", []),
    ("files", {"../x": "0" * 64}), ("files", {"README.md": "abc"}),
])
def test_a_wrong_value_is_named(manifest: Manifest, field: str, value: Any) -> None:
    with pytest.raises(PatchFormatError, match=field):
        read(manifest.to_json() | {field: value})


@pytest.mark.parametrize(("field", "value"), [
    ("strength", math.nan), ("strength", math.inf), ("title", "half \ud800"), ("version", "1.0"), ("supersedes", ["a"]),
    ("base", {"id": "a"}), ("surprise", 1), ("evidence", (Measure("s", "l", "m", math.nan, 0, 1, 5, "x"),)),
    ("evidence", (Measure("s", "l", "m", 0, 0, 1, True, "x"),)),
    ("evidence", (Measure("two\nlines", "l", "m", 0, 0, 1, 5, "x"),)),
])
def test_a_wrong_value_cannot_be_made_in_python_either(manifest: Manifest, field: str, value: Any) -> None:
    with pytest.raises(PatchFormatError, match=f"manifest .*{field}") as caught:
        dataclasses.replace(manifest, **{field: value})
    assert "\n" not in str(caught.value)


def test_a_figure_of_whole_numbers_is_written_as_figures(manifest: Manifest) -> None:
    made = dataclasses.replace(manifest, strength=1, evidence=(Measure("s", "l", "m", 1, 0, 1, 5, "x"),))
    assert json.dumps(made.to_json()["strength"]) == "1.0" and json.dumps(made.to_json()["evidence"][0]["value"]) == "1.0"


@pytest.mark.parametrize("fingerprint", ["a" * 64, "w2:" + "a" * 64])
def test_fingerprints_of_either_version_are_taken(manifest: Manifest, fingerprint: str) -> None:
    made = dataclasses.replace(manifest, base=dataclasses.replace(manifest.base, fingerprint=fingerprint))
    assert read(made.to_json()).base.fingerprint == fingerprint


def test_a_prefix_too_big_for_memory_is_refused(manifest: Manifest) -> None:
    with pytest.raises(PatchFormatError, match="length x width"):
        dataclasses.replace(manifest, length=4096, width=65536)


@pytest.mark.parametrize(("field", "value"), [
    ("id", ""), ("id", 7), ("fingerprint", ""), ("fingerprint", "a b"), ("tokenizer_digest", ""),
    ("revision", None), ("template_digest", "x" * 300),
])
def test_a_wrong_base_is_named(manifest: Manifest, field: str, value: Any) -> None:
    content = manifest.to_json()
    content["base"][field] = value
    with pytest.raises(PatchFormatError, match=rf"base\.{field}"):
        read(content)


@pytest.mark.parametrize(("field", "value"), [
    ("low", "0"), ("high", 0.01), ("n", 0), ("n", 2.0), ("scorer", ""), ("suite", None),
])
def test_wrong_evidence_is_named(manifest: Manifest, field: str, value: Any) -> None:
    content = manifest.to_json()
    content["evidence"][0][field] = value
    with pytest.raises(PatchFormatError, match=r"evidence\[0\]"):
        read(content)


@pytest.mark.parametrize("key", ["supersedes", "strength", "files"])
def test_a_missing_key_with_a_default_is_named_too(manifest: Manifest, key: str) -> None:
    content = manifest.to_json()
    del content[key]
    with pytest.raises(PatchFormatError, match=f"no key '{key}'"):
        read(content)


@pytest.mark.parametrize("where", ["", "base", "evidence"])
def test_missing_and_unknown_keys_are_named(manifest: Manifest, where: str) -> None:
    content = manifest.to_json()
    part = {"": content, "base": content["base"], "evidence": content["evidence"][0]}[where]
    gone = next(key for key in part if key != "schema")
    del part[gone]
    part["surprise"] = 1
    with pytest.raises(PatchFormatError, match=f"no key '{gone}' and an unknown key 'surprise'"):
        read(content)


def test_versions_sort_as_semver_says() -> None:
    in_order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
                "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    assert all(is_version(version) for version in in_order)
    assert all(version_key(a) < version_key(b) for a, b in itertools.pairwise(in_order))


def test_a_release_is_preferred_to_a_later_pre_release(manifest: Manifest) -> None:
    trial = dataclasses.replace(manifest, version="2.0.0-rc.1+build-7")
    assert trial.order < manifest.order < dataclasses.replace(manifest, version="2.0.0").order


@pytest.mark.parametrize(("data", "reason"), [
    (b'{"a": 1, "a": 2}', "'a' twice"), (b'{"a": {"b": 1, "b": 1}}', "'b' twice"), (b'{"a": NaN}', "NaN"),
    (b'{"a": -Infinity}', "Infinity"), (b"[" * 100_000 + b"]" * 100_000, "nested"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"), (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    (b"\xff\xfe{}", "UTF-8"), (b"[]", "list"), (b"", "not JSON"), (b"{} {}", "not JSON"),
])
def test_hostile_json_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PatchFormatError, match=reason):
        parse_object(data, where="a file")
