"""Every law is held for every family: `backbone` is one tiny model of each in turn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest
import torch
from made_models import FAMILIES, make_backbone

from patchlab.engine import Backbone


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
