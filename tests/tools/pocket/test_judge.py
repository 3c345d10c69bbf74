"""Judging: what gates make alike is asked once, and its figures are those of asking anew."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from patchlab.engine import Lab, Sampling, load
from patchlab.evaluation.suites import FOLDER
from patchlab.patches import Stack
from patchlab.records import Reply
from tools.pocket import judge

ORDERS = ("bias,refusal,toxicity", "toxicity,refusal,bias")


def drained(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load("pocket", device="cpu")


def test_gated_orders_ask_once_what_is_alike(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    draw = judge.finished
    monkeypatch.setattr(judge, "finished", lambda lanes, prompts, **how: asked.append(len(prompts)) or draw(lanes, prompts, **how))

    def read(order: str, memo: judge.Memo | None) -> tuple[judge.Values, dict[str, list[Reply]]]:
        kept: dict[str, list[Reply]] = {}
        stack = Stack.parse(order, mode="sequential", gates=True)
        return drained(judge.rates(lab, stack, "patched", "x", FOLDER / "pocket", 5, Sampling(seed=0, max_new_tokens=6), kept,
                                   ("bias", "harmful", "benign"), memo=memo)), kept

    memo: judge.Memo = {}
    once = [read(order, memo) for order in ORDERS]
    few = sum(asked)
    asked.clear()
    assert [read(order, None) for order in ORDERS] == once
    assert few < sum(asked) == 2 * 15
    assert [reply.row for reply in once[1][1]["x bias"]] == list(range(5 * 4))
