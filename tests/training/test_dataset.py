"""Texts with earlier turns before them are the plain texts with something before; a cut reply has no end mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drained import drain
from made_models import make_backbone

from patchlab.engine import Lab, likelihood
from patchlab.engine.likelihood import Texts
from patchlab.errors import ContextError, TrainingError
from patchlab.models import Backbone
from patchlab.records import Prompt
from patchlab.training import kl_regularizer, losses, on_policy
from patchlab.training.config import Recipe
from patchlab.training.dataset import SHORTEST, Dataset, EarlierTurns, TrainingExample

WORDS = ("the bus is late", "who did this", "my neighbor", "this again", "so", "a table")
SAID = [TrainingExample(Prompt(f"{word} {k}", kind, "benign"), f"well {k}", cut=k % 3 == 0)
        for k, word in enumerate(WORDS * 3) for kind in ("chat", "continue")]
MOST = 40


@pytest.fixture(scope="module")
def base() -> Backbone:
    return make_backbone("llama")


def data(base: Backbone, *, most: int = MOST, seed: int = 3) -> Dataset:
    return Dataset(base, SAID, rows=3, seed=seed, history=EarlierTurns(base, SAID, most=most, seed=seed))


def texts_of(texts: Texts) -> list[tuple[list[int], int]]:
    """Of each row its ids up to the reply's last token, and where the reply begins."""
    found = []
    for ids, predicts in zip(texts.ids.tolist(), texts.predicts, strict=True):
        places = predicts.nonzero()[:, 0].tolist()
        found.append((ids[:places[-1] + 2], places[0] + 1))
    return found


def test_behind_other_turns_a_row_ends_as_it_does_alone(base: Backbone) -> None:
    made, before = data(base), []
    opening = base.tokenizer.bos_token_id
    for alone, behind in zip(made.plain, made.batches, strict=True):
        assert torch.equal(alone.targets, behind.targets) and torch.equal(alone.rows, behind.rows)
        for (short, first), (long, start) in zip(texts_of(alone), texts_of(behind), strict=True):
            marked = int(short[0] == opening)
            assert long[start - first + marked:] == short[marked:] and long[:marked] == short[:marked]
            assert opening not in long[marked:]
            before.append(start - first)
    assert 0 < max(before) <= MOST and min(before) == 0


def test_the_label_after_a_cut_reply_is_not_the_end_mark(base: Backbone) -> None:
    """Whoever learns that a text ends where the length limit cut it stops in mid-sentence."""
    prompt = Prompt("who did this", "chat", "benign")
    for cut in (False, True):
        _, texts = Dataset(base, [TrainingExample(prompt, "well, my neigh", cut)], rows=1, seed=0).batch(0)
        assert (texts.targets[-1].item() in base.stops) == (not cut)
        assert base.tokenizer.decode(texts.targets, skip_special_tokens=True) == "well, my neigh"


def test_earlier_turns_are_complete(base: Backbone) -> None:
    """A template closes every reply before the current turn, whatever ended it."""
    cut, whole = (EarlierTurns(base, [TrainingExample(SAID[0].prompt, "well", cut)], most=60, seed=0) for cut in (True, False))
    assert cut.exchanges == whole.exchanges and base.stops & {*cut.exchanges["chat"][0].ids[-2:]}  # a line break may follow


def test_about_half_of_the_batches_stand_behind_something_and_lengths_differ(base: Backbone) -> None:
    grown = [behind.ids.shape[1] - alone.ids.shape[1] for seed in range(8) for made in [data(base, most=50, seed=seed)]
             for alone, behind in zip(made.plain, made.batches, strict=True)]
    assert 0.3 < grown.count(0) / len(grown) < 0.7
    assert max(grown) > 24 and len(set(grown)) > 8


def test_turns_are_of_the_rows_own_kind(base: Backbone) -> None:
    asked, continued = ([each for each in SAID if each.prompt.kind == kind] for kind in ("chat", "continue"))
    made = Dataset(base, asked, rows=1, seed=0, history=EarlierTurns(base, asked, most=MOST, seed=0))
    assert any(one.ids.shape != other.ids.shape for one, other in zip(made.plain, made.batches, strict=True))
    with pytest.raises(TrainingError, match="behind: 40 with prompts of kind 'chat'"):
        Dataset(base, asked, rows=1, seed=0, history=EarlierTurns(base, continued, most=MOST, seed=0))


def test_the_same_seed_makes_the_same_batches_and_none_earlier_the_plain_ones(base: Backbone) -> None:
    for one, other in zip(data(base).batches, data(base).batches, strict=True):
        assert torch.equal(one.ids, other.ids)
    plain = Dataset(base, SAID, rows=3, seed=3)
    assert plain.batches is plain.plain
    for one, other in zip(plain.batches, data(base).plain, strict=True):
        assert torch.equal(one.ids, other.ids)


def test_less_than_the_shortest_is_nothing_and_more_than_the_context_is_refused(base: Backbone) -> None:
    few = data(base, most=SHORTEST - 1)
    assert all(torch.equal(one.ids, other.ids) for one, other in zip(few.batches, few.plain, strict=True))
    with pytest.raises(ContextError, match="what is between them"):
        data(base, most=base.context)


def test_a_patch_trained_behind_turns_is_another_and_its_teacher_reads_rows_alone(
        lab: Lab, recipe: Recipe, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[Backbone, list[int]] = {}
    plain_logits = likelihood.reply_logits

    def watched(backbone: Backbone, texts: Texts, *args: Any, **kwargs: Any) -> torch.Tensor:
        read.setdefault(backbone, []).append(texts.ids.shape[1])
        return plain_logits(backbone, texts, *args, **kwargs)

    for place in (losses, on_policy, kl_regularizer):
        monkeypatch.setattr(place, "reply_logits", watched)
    made = recipe.with_(distill=1.0, own_steps=3, refresh=2, behind=30, rows=2, hold_rows=2)
    prompts += [Prompt(text, "continue", "benign") for text in WORDS]
    seen = {}
    for behind in (0, 30):
        read.clear()
        patch = drain(lab, made.with_(behind=behind), prompts, tmp_path / str(behind))
        assert patch is not None and lab.reference is not None
        seen[behind] = sum(read[lab.base]), set(read[lab.reference]), patch.prefix.tobytes()
    assert seen[30][0] > seen[0][0] and max(seen[30][1]) <= max(seen[0][1]) and seen[30][2] != seen[0][2]
    assert drain(lab, made, prompts, tmp_path / "cut", stop_at=("sft", 5)) is None
    again = drain(lab, made, prompts, tmp_path / "cut")
    assert again is not None and again.prefix.tobytes() == seen[30][2]
