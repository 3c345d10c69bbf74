"""One backdoored toy model for this room, and tiny models of every family."""

from __future__ import annotations

import pytest
from backdoored import backdoored, clean_set
from model_fixtures import _one_thread, backbone, llama, weights

from patchlab.models import Backbone
from patchlab.repair.contrast import Probe

__all__ = ["_one_thread", "backbone", "llama", "poisoned", "probe", "weights"]


@pytest.fixture(scope="session")
def poisoned() -> Backbone:
    return backdoored()


@pytest.fixture(scope="session")
def probe(poisoned: Backbone) -> Probe:
    return Probe(poisoned, clean_set())
