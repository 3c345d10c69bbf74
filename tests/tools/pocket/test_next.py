"""The next release is the base trained on: resumed as if never stopped, whole or absent, and never in another's place."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import pytest

from patchlab.errors import InputError
from patchlab.models import load_backbone
from patchlab.storage import sha256
from tools.pocket.corpus import BASE, corpus
from tools.pocket.language_model import Size, new_model, save_model
from tools.pocket.next import Release, next_release
from tools.pocket.tokenizer import train_tokenizer

pytestmark = pytest.mark.xdist_group("pocket")  # one process, so that what its tests share is made once

SIZE = Size(width=32, layers=1, heads=2, vocabulary=500, rows=8, peak_rate=5e-3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer((d.reply for d in islice(corpus(BASE, seed=1), 200)), size=SIZE.vocabulary)
    folder = tmp_path_factory.mktemp("base")
    save_model(new_model(SIZE, vocabulary=len(tokenizer), seed=3), tokenizer, folder)
    return folder


def test_it_has_the_bases_words_and_other_weights(source: Path, tmp_path: Path) -> None:
    before = sha256(source / "model.safetensors")
    list(next_release(Release(source=source, out=tmp_path / "next", steps=4, size=SIZE)))
    old, new = load_backbone(source).identity, load_backbone(tmp_path / "next").identity
    assert old.fingerprint != new.fingerprint
    assert (old.tokenizer_digest, old.template_digest) == (new.tokenizer_digest, new.template_digest)
    assert sha256(source / "model.safetensors") == before and [each.name for each in tmp_path.iterdir()] == ["next"]


def test_cut_off_and_resumed_gives_the_same_model(source: Path, tmp_path: Path) -> None:
    def release(name: str) -> Release:
        return Release(source=source, out=tmp_path / name, steps=24, size=SIZE)

    list(next_release(release("straight")))
    steps = next_release(release("cut"), save_every=4)
    done = [step.done for step in islice(steps, 2)]
    steps.close()
    assert done == [10, 20] and not (tmp_path / "cut").exists()
    rest = [step.done for step in next_release(release("cut"), save_every=4)]
    assert rest == [24], "it goes on from the last state and not from the start"
    assert sha256(tmp_path / "cut" / "model.safetensors") == sha256(tmp_path / "straight" / "model.safetensors")
    [again] = next_release(release("cut"))
    assert again.message == "done before"


def test_nothing_else_is_overwritten(source: Path, tmp_path: Path) -> None:
    release = Release(source=source, out=tmp_path / "next", steps=2, size=SIZE)
    list(next_release(release))
    with pytest.raises(InputError, match="holds something else"):
        next(next_release(dataclasses.replace(release, steps=3)))
    with pytest.raises(InputError, match="no model in"):
        next(next_release(dataclasses.replace(release, source=tmp_path / "none")))
