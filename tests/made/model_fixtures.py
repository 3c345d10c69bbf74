"""Every law is held for every family: `backbone` is one tiny model of each in turn."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import FAMILIES, make_backbone, saved

from patchlab.engine.decode import Batch
from patchlab.models import Backbone


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Models this small only lose by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """A tiny backbone of every tested family."""
    return make_backbone(request.param)


@pytest.fixture
def llama() -> Backbone:
    """One backbone, for laws in which the architecture has no part."""
    return make_backbone("llama")


@pytest.fixture
def weights() -> Callable[[Backbone], str]:
    """The sha256 of every byte of a backbone's weights and buffers."""
    def digest(backbone: Backbone) -> str:
        found = hashlib.sha256()
        for name, tensor in sorted(backbone.model.state_dict().items()):
            found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
        return found.hexdigest()
    return digest


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[weakref.ref[torch.Tensor]]]:
    """Gives weak references to the keys and values of every batch made since, as far as it is still alive."""
    made: list[weakref.ref[Batch]] = []
    begin = Batch.__init__

    def remember(self: Batch, *args: Any, **kwargs: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *args, **kwargs)

    def blocks() -> list[weakref.ref[torch.Tensor]]:
        alive = [batch for batch in (each() for each in made) if batch is not None]
        return [weakref.ref(block) for batch in alive for layer in batch.cache.layers if layer.is_initialized
                for block in (layer.block_keys, layer.block_values)]

    monkeypatch.setattr(Batch, "__init__", remember)
    return blocks


@pytest.fixture
def folder(tmp_path: Path, llama: Backbone) -> Path:
    """A saved model as the Hub has them."""
    return saved(llama, tmp_path / "tiny")
