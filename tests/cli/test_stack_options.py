"""The stack of a command line: gates are on where the preset's patches are meant to be used so, unless --gates says otherwise."""

from __future__ import annotations

import argparse

import pytest

from patchlab.cli import options


@pytest.mark.parametrize(("words", "gates"), [
    ([], False), (["--gates", "on"], True), (["--preset", "smollm2"], True), (["--preset", "smollm2", "--gates", "off"], False),
    (["--preset", "pocket"], False)])
def test_gates_follow_the_preset_unless_told(words: list[str], gates: bool) -> None:
    parser = argparse.ArgumentParser()
    options.add_models(parser)
    options.add_stack(parser)
    assert options.read_stack(parser.parse_args(["--stack", "refusal", *words])).gates == gates
