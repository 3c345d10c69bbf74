"""The phrases that made texts for the scorers are written from: YAML files in words/, a list of texts a name."""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml


@cache
def _lists(file: str) -> dict[str, list[str]]:
    text = (resources.files("tools.scorers") / "words" / f"{file}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def written(file: str, name: str) -> tuple[str, ...]:
    """The texts of one list of a file."""
    return tuple(_lists(file)[name])
