"""A patch goes to a Hub and comes back; only files of a patch travel, and what cannot be had is said in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import numpy as np
import pytest
from local_hub import LocalHub, local_hub
from made_patches import make_patch

from patchlab.errors import InputError, NotFoundError, PatchFormatError, TamperedError
from patchlab.patches import Gate, Manifest, Patch

ME = "me/calm"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A Hub on this machine with an empty cache, in place of the public one."""
    with local_hub() as found:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", "hf_made")
        yield found


def test_what_is_pushed_comes_back(hub: LocalHub, patch: Patch) -> None:
    url = patch.push_to_hub(ME, private=True)
    assert url.startswith(f"{hub.url}/{ME}/commit/") and hub.created[ME]["visibility"] == "private"
    assert sorted(hub.repositories[ME]["main"]) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "patch.json"]
    found = Patch.from_pretrained(ME)
    assert found.prefix.tobytes() == patch.prefix.tobytes() and replace(found.manifest, files={}) == patch.manifest
    assert Patch.from_pretrained(ME, revision=url.rsplit("/", 1)[1]) == found


def test_a_push_replaces_the_patch_in_one_commit_and_leaves_other_files(hub: LocalHub, patch: Patch, manifest: Manifest) -> None:
    gated = replace(patch, gate=Gate(3, np.ones(8, np.float32), 0.5))
    gated.push_to_hub(ME)
    hub.repositories[ME]["main"]["notes.txt"] = b"mine"
    assert Patch.from_pretrained(ME).gate == gated.gate
    hub.asked.clear()
    newer = make_patch(replace(manifest, version="1.1.0"), seed=1)
    newer.push_to_hub(ME)
    assert len([line for line in hub.asked if "/commit/" in line]) == 1
    assert "gate.safetensors" not in hub.repositories[ME]["main"] and hub.repositories[ME]["main"]["notes.txt"] == b"mine"
    assert Patch.from_pretrained(ME).digest == newer.digest


def test_a_branch_is_made_and_read(hub: LocalHub, patch: Patch, manifest: Manifest) -> None:
    patch.push_to_hub(ME)
    trial = make_patch(manifest, seed=1)
    for _ in range(2):
        trial.push_to_hub(ME, revision="trial")
    assert Patch.from_pretrained(ME, revision="trial").digest == trial.digest != Patch.from_pretrained(ME).digest == patch.digest


def test_only_files_of_a_patch_are_downloaded_and_none_that_is_too_large(hub: LocalHub, patch: Patch) -> None:
    patch.push_to_hub(ME)
    hub.repositories[ME]["main"] |= {"pytorch_model.bin": b"\x80\x04K\x01.", "deep/patch.json": b"{}"}
    hub.asked.clear()
    assert Patch.from_pretrained(ME).digest == patch.digest
    assert not [line for line in hub.asked if "bin" in line or "deep" in line]
    hub.sizes["adapter_model.safetensors"] = 2**40
    hub.asked.clear()
    with pytest.raises(PatchFormatError, match=rf"adapter_model\.safetensors of me/calm has {2**40} bytes"):
        Patch.from_pretrained(ME)
    assert not [line for line in hub.asked if "resolve" in line]


def test_what_was_changed_on_the_hub_is_caught(hub: LocalHub, patch: Patch) -> None:
    patch.push_to_hub(ME)
    hub.repositories[ME]["main"]["README.md"] += b"!"
    with pytest.raises(TamperedError, match=r"README\.md"):
        Patch.from_pretrained(ME)


@pytest.mark.parametrize("revision", [None, "v9"])
def test_what_is_not_there_is_one_line(hub: LocalHub, patch: Patch, revision: str | None) -> None:
    if revision:
        patch.push_to_hub(ME)
    with pytest.raises(NotFoundError, match=r"no Hub repository 'me/calm'.*check the name") as caught:
        Patch.from_pretrained(ME, revision=revision)
    assert "\n" not in str(caught.value)


def test_a_repository_of_others_cannot_be_written(hub: LocalHub, patch: Patch) -> None:
    with pytest.raises(InputError, match=r"'others/calm' cannot be written .*log in"):
        patch.push_to_hub("others/calm")
    with pytest.raises(InputError, match="cannot be written"):
        patch.push_to_hub("no such name/at all")


def test_without_network_the_cache_is_used_and_else_one_line_says_so(
        hub: LocalHub, patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    patch.push_to_hub(ME)
    whole = Patch.from_pretrained(ME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Patch.from_pretrained(ME) == whole
    with pytest.raises(NotFoundError, match="no folder 'me/other', and the Hub cannot be reached"):
        Patch.from_pretrained("me/other")
    with pytest.raises(InputError, match="cannot be written"):
        patch.push_to_hub(ME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}")
    assert Patch.from_pretrained(ME) == whole
    with pytest.raises(NotFoundError, match="the Hub cannot be reached"):
        Patch.from_pretrained("me/other")


@pytest.mark.parametrize("source", [Path("me/calm"), "./me/calm", "../calm", "/me/calm", "calm", "a/b/c", ""])
def test_a_path_never_asks_the_hub(hub: LocalHub, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PatchFormatError):
        Patch.from_pretrained(source)
    assert hub.asked == []


def test_a_folder_comes_before_a_repository_of_its_name(hub: LocalHub, patch: Patch, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    patch.save_pretrained("me/calm")
    assert Patch.from_pretrained("me/calm").digest == patch.digest and hub.asked == []
    assert os.path.isdir("me/calm")
