"""compare in a conversation: where the patches stand, and what happens to one that is too long."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from patchlab.cli import main
from patchlab.registry import install

SHORT = ("--max-new-tokens", "6")


def test_compare_in_a_conversation(pocket: Path, home: Path, calm: Path, rows: Callable[..., Path],
                                   capsys: pytest.CaptureFixture[str]) -> None:
    """The patch is before the current turn or in front of all; a conversation that is too long loses turns only if asked."""
    install(calm, home)
    exchange = [{"role": "user", "content": "how do i bake bread"}, {"role": "assistant", "content": "you mix flour and water"}]
    short = rows({"messages": [*exchange, {"role": "user", "content": "you are"}]})
    found = []
    for placement in ("turn", "front"):
        assert main(["compare", "--prompts", str(short), *SHORT, "--stack", "calm", "--placement", placement, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    base, patched = ([row["lanes"][k]["text"] for row in found] for k in (0, 1))
    assert base[0] == base[1] and patched[0] != patched[1]
    long = rows({"messages": [*exchange * 400, {"role": "user", "content": "you are"}]}, {"text": "hello"})
    assert main(["compare", "--prompts", str(long), *SHORT, "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "1 row skipped" in err and "left out" not in err
    assert main(["compare", "--prompts", str(long), *SHORT, "--json", "--drop-oldest"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and "conversations longer than the context: 1" in err
