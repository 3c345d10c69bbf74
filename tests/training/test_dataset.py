"""Rows that stand behind earlier turns are the rows they are alone, with something before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drained import drain
from made_models import make_backbone

from patchlab.engine import Trio, teacher
from patchlab.engine.likelihood import Texts
from patchlab.errors import ContextError, TrainingError
from patchlab.models import Backbone
from patchlab.records import Prompt
from patchlab.training import kl_regularizer, losses, on_policy
from patchlab.training.config import Recipe
from patchlab.training.dataset import SHORTEST, Earlier, Rows

WORDS = ("the bus is late", "who did this", "my neighbor", "this again", "so", "a table")
SAID = [(Prompt(f"{word} {k}", kind, "benign"), f"well {k}")
        for k, word in enumerate(WORDS * 3) for kind in ("chat", "continue")]
MOST = 40


@pytest.fixture(scope="module")
def base() -> Backbone:
    return make_backbone("llama")


def rows(base: Backbone, *, most: int = MOST, seed: int = 3) -> Rows:
    return Rows(base, SAID, rows=3, seed=seed, earlier=Earlier(base, SAID, most=most, seed=seed))


def texts_of(texts: Texts) -> list[tuple[list[int], int]]:
    """Of each row its ids up to the reply's last token, and where the reply begins."""
    found = []
    for ids, predicts in zip(texts.ids.tolist(), texts.predicts, strict=True):
        places = predicts.nonzero()[:, 0].tolist()
        found.append((ids[:places[-1] + 2], places[0] + 1))
    return found


def test_behind_other_turns_a_row_ends_as_it_does_alone(base: Backbone) -> None:
    made, before = rows(base), []
    opening = base.tokenizer.bos_token_id
    for alone, behind in zip(made.alone, made.batches, strict=True):
        assert torch.equal(alone.targets, behind.targets) and torch.equal(alone.rows, behind.rows)
        for (short, first), (long, start) in zip(texts_of(alone), texts_of(behind), strict=True):
            marked = int(short[0] == opening)
            assert long[start - first + marked:] == short[marked:] and long[:marked] == short[:marked]
            assert opening not in long[marked:]
            before.append(start - first)
    assert 0 < max(before) <= MOST and min(before) == 0


def test_about_half_of_the_batches_stand_behind_something_and_lengths_differ(base: Backbone) -> None:
    grown = [behind.ids.shape[1] - alone.ids.shape[1] for seed in range(8) for made in [rows(base, most=50, seed=seed)]
             for alone, behind in zip(made.alone, made.batches, strict=True)]
    assert 0.3 < grown.count(0) / len(grown) < 0.7
    assert max(grown) > 24 and len(set(grown)) > 8


def test_turns_are_of_the_rows_own_kind(base: Backbone) -> None:
    asked, continued = ([each for each in SAID if each[0].kind == kind] for kind in ("chat", "continue"))
    made = Rows(base, asked, rows=1, seed=0, earlier=Earlier(base, asked, most=MOST, seed=0))
    assert any(one.ids.shape != other.ids.shape for one, other in zip(made.alone, made.batches, strict=True))
    with pytest.raises(TrainingError, match="behind: 40 for prompts of kind 'chat'"):
        Rows(base, asked, rows=1, seed=0, earlier=Earlier(base, continued, most=MOST, seed=0))


def test_the_same_seed_makes_the_same_batches_and_none_earlier_the_plain_ones(base: Backbone) -> None:
    for one, other in zip(rows(base).batches, rows(base).batches, strict=True):
        assert torch.equal(one.ids, other.ids)
    plain = Rows(base, SAID, rows=3, seed=3)
    assert plain.batches is plain.alone
    for one, other in zip(plain.batches, rows(base).alone, strict=True):
        assert torch.equal(one.ids, other.ids)


def test_less_than_the_shortest_is_nothing_and_more_than_the_context_is_refused(base: Backbone) -> None:
    few = rows(base, most=SHORTEST - 1)
    assert all(torch.equal(one.ids, other.ids) for one, other in zip(few.batches, few.alone, strict=True))
    with pytest.raises(ContextError, match="what is between them"):
        rows(base, most=base.context)


def test_a_patch_trained_behind_turns_is_another_and_its_teacher_reads_rows_alone(
        trio: Trio, recipe: Recipe, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[Backbone, list[int]] = {}
    plain_logits = teacher.reply_logits

    def watched(backbone: Backbone, texts: Texts, *args: Any, **kwargs: Any) -> torch.Tensor:
        read.setdefault(backbone, []).append(texts.ids.shape[1])
        return plain_logits(backbone, texts, *args, **kwargs)

    for place in (losses, on_policy, kl_regularizer):
        monkeypatch.setattr(place, "reply_logits", watched)
    made = recipe.with_(distill=1.0, own_steps=3, refresh=2, behind=30)
    prompts += [Prompt(text, "continue", "benign") for text in WORDS]
    seen = {}
    for behind in (0, 30):
        read.clear()
        patch = drain(trio, made.with_(behind=behind), prompts, tmp_path / str(behind))
        assert patch is not None and trio.reference is not None
        seen[behind] = sum(read[trio.base]), set(read[trio.reference]), patch.prefix.tobytes()
    assert seen[30][0] > seen[0][0] and max(seen[30][1]) <= max(seen[0][1]) and seen[30][2] != seen[0][2]
    assert drain(trio, made, prompts, tmp_path / "cut", stop_after=8) is None
    again = drain(trio, made, prompts, tmp_path / "cut")
    assert again is not None and again.prefix.tobytes() == seen[30][2]
