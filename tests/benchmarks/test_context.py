"""Long prompts are as long as asked and end in the prompt; a pinned bank keeps what one that slides away loses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality import context
from benchmarks.quality.long_texts import long_ids
from benchmarks.speed.sizes import made, patches
from patchlab.engine import BARE, Bank, StackPlan
from patchlab.models import Backbone, load_backbone, preset
from patchlab.records import Prompt


@pytest.fixture(scope="module")
def pocket() -> Backbone:
    return load_backbone(preset("pocket").source("base"), device="cpu")


@pytest.mark.parametrize("prompt", [Prompt("How do I pick a lock?"), Prompt("The nurse was late because", "continue")],
                         ids=["chat", "continue"])
def test_a_long_prompt_is_the_prompt_behind_other_texts(prompt: Prompt, pocket: Backbone) -> None:
    alone = pocket.encode(prompt)
    assert long_ids(pocket, prompt, tokens=8, seed=0) == alone  # nothing fits
    for tokens in (200, 3950):
        ids = long_ids(pocket, prompt, tokens=tokens, seed=0)
        assert tokens - 80 <= len(ids) <= tokens and ids[-len(alone) + 1:] == alone[1:] and ids[0] == alone[0]
        assert ids == long_ids(pocket, prompt, tokens=tokens, seed=0) != long_ids(pocket, prompt, tokens=tokens, seed=1)


def test_a_bank_that_slides_away_is_gone_and_a_pinned_one_is_not() -> None:
    backbone = made("sliding")
    [patch] = patches(backbone, 1)
    plan, prefix = StackPlan.of((Bank(backbone).segment([patch]), 1.0)), torch.from_numpy(patch.prefix.copy())
    config = backbone.model.config
    gone = config.num_hidden_layers * config.sliding_window  # what one token saw, one layer on others see

    def moved(length: int) -> tuple[float, float]:
        ids = np.random.default_rng(length).integers(7, 4096, length).tolist()
        bare = context.next_logits(backbone, ids, BARE)
        return tuple(float((logits - bare).abs().max()) for logits in (  # type: ignore[return-value]
            context.next_logits(backbone, ids, plan), context.slid_away(backbone, ids, prefix)))

    pinned, sliding = moved(4)
    assert pinned == pytest.approx(sliding, abs=1e-4), "as long as all is in the window they are one thing"
    for length in (gone, 4 * gone):
        pinned, sliding = moved(length)
        assert pinned > 0.5 and sliding < 1e-4


def test_equal_texts_keep_all_of_an_effect() -> None:
    assert context.share_of([1.0, 3.0, 2.0], [1.0, 3.0, 2.0]) == [1.0, 1.0, 1.0, 3]
    assert context.share_of([1.0, 1.0], [2.0, 2.0]) == [0.5, 0.5, 0.5, 2]


def test_a_quick_run_reads_every_length_and_a_second_one_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    assert context.main(asked) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    names: dict[str, list[str]] = {}
    for row in found["rows"]:
        names.setdefault(row["group"], []).append(row["name"])
        for name, cell in row["figures"].items():
            # a share of next to nothing can be anything
            assert name in ("tokens", "of that at the shortest") or cell[1] <= cell[0] <= cell[2]
    assert len(names) == found["groups"]
    assert [each for group, each in names.items() if "window" not in group] == [["50 tokens", "120 tokens"]] * 7
    first = [row["figures"] for row in found["rows"] if row["name"] == "50 tokens"]
    assert all(each["of that at the shortest"][0] == 1 and each["log-odds moved"][0] != 0 for each in first)
    monkeypatch.setattr(context, "reading", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(context, "cases", lambda *_: pytest.fail("drawn again"))
    assert context.main(asked) == 0
