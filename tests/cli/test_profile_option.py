"""--profile gives the pinned stack, and nothing beside it; `patches pin` writes it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from patchlab.cli import main, options
from patchlab.errors import NotFoundError, TamperedError
from patchlab.patches.profile import Profile
from patchlab.registry import lookup


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_models(parser)
    options.add_stack(parser)
    parser.set_defaults(refuse=parser.error)
    return parser.parse_args(words)


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    path = tmp_path / "acme.json"
    assert main(["patches", "pin", str(path), "--stack", "toxicity,refusal:0.5", "--mode", "blend", "--gates", "on"]) == 0
    return path


def test_a_profile_is_the_stack_it_was_pinned_from(acme: Path) -> None:
    stack = options.read_stack(parsed("--profile", str(acme)))
    own = lookup("toxicity").manifest
    assert str(stack) == f"toxicity@1.0.0:{own.strength:g},refusal@1.0.0:0.5" and (stack.mode, stack.gates) == ("blend", True)
    assert Profile.read(acme).patches[0].digest == own.digest and Profile.read(acme).name == "acme"


def test_a_sequence_is_pinned_to_its_one_strength(tmp_path: Path) -> None:
    main(["patches", "pin", str(tmp_path / "a.json"), "--stack", "toxicity,refusal,bias:0", "--mode", "sequential"])
    first, second, off = Profile.read(tmp_path / "a.json").patches
    assert first.strength == second.strength > 0 and off.strength == 0
    assert options.read_stack(parsed("--profile", str(tmp_path / "a.json"))).mode == "sequential"


def test_patches_of_another_base_are_pinned_by_its_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["patches", "list", "--json"])
    of = {each["fingerprint"]: each["digest"] for each in map(json.loads, capsys.readouterr().out.splitlines())
          if each["name"] == "refusal"}
    assert len(of) > 1
    for fingerprint, digest in of.items():
        main(["patches", "pin", str(tmp_path / "a.json"), "--stack", "refusal", "--fingerprint", fingerprint[:10], "--json"])
        assert json.loads(capsys.readouterr().out)["patches"][0]["digest"] == digest
        options.read_stack(parsed("--profile", str(tmp_path / "a.json")))


def test_another_digest_and_another_version_are_typed_errors(acme: Path) -> None:
    content = json.loads(acme.read_text())
    acme.write_text(json.dumps(content | {"patches": [content["patches"][0] | {"digest": "0" * 64}]}))
    with pytest.raises(TamperedError, match="to which the profile acme is pinned"):
        options.read_stack(parsed("--profile", str(acme)))
    acme.write_text(json.dumps(content | {"patches": [content["patches"][0] | {"version": "9.0.0"}]}))
    with pytest.raises(NotFoundError, match="unknown version"):
        options.read_stack(parsed("--profile", str(acme)))


def test_a_stack_beside_a_profile_is_wrong_usage(acme: Path) -> None:
    for words in (["--stack", "bias"], ["--mode", "blend"], ["--gates", "off"], ["--placement", "front"]):
        with pytest.raises(SystemExit):
            options.read_stack(parsed("--profile", str(acme), *words))


def test_nothing_to_pin_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patches", "pin", str(tmp_path / "a.json")]) == 1
    assert "an empty stack" in capsys.readouterr().err and not (tmp_path / "a.json").exists()


def test_a_profile_of_another_base_is_refused_when_models_are_loaded(acme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(acme.read_text())
    other = next(one for one in options.default_registry().list() if one.manifest.base.fingerprint != content["base"])
    manifest = other.manifest
    Profile.of("acme", options.Stack.parse(manifest.name), [manifest], [1.0]).save(acme)
    assert main(["compare", "hello", "--profile", str(acme), "--max-new-tokens", "2"]) == 1
    assert "the profile acme for the base" in capsys.readouterr().err


def test_a_second_profile_is_a_lane_of_its_own(tmp_path: Path, acme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["patches", "pin", str(tmp_path / "beta.json"), "--stack", "refusal"])
    capsys.readouterr()
    words = ["evaluate", "--profile", str(acme), "--second-profile", str(tmp_path / "beta.json"), "--suite", "refusal",
             "--n", "1", "--samples", "1", "--max-new-tokens", "2", "--json"]
    assert main(words) == 0
    assert {json.loads(line)["lane"] for line in capsys.readouterr().out.splitlines()} == {
        "base", "patched", "patched 2: beta", "reference"}
    content = json.loads((tmp_path / "beta.json").read_text())
    (tmp_path / "beta.json").write_text(json.dumps(content | {"base": "0" * 64}))
    assert main(words) == 1
